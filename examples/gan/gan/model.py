"""A generator and a discriminator, trained in turns by manual optimization."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Adam

Batch = list[Tensor]


class GAN(pl.LightningModule):
    """Learns to draw pictures [1, 8, 8] from `latent` normal numbers.

    Logs `val/distance`: how far the drawn pictures are from those of the validation part.
    """

    def __init__(
        self, *, latent: int = 32, width: int = 32, generator_lr: float = 1e-3, discriminator_lr: float = 1e-3
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = nn.Sequential(
            nn.Unflatten(1, (latent, 1, 1)),
            nn.ConvTranspose2d(latent, 2 * width, 2), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1), nn.Tanh(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Flatten(), nn.Linear(8 * width, 1),
        )  # fmt: skip

    def forward(self, noise: Tensor) -> Tensor:
        return self.generator(noise)

    def training_step(self, batch: Batch, _: int) -> None:
        (real,) = batch
        generator, discriminator = self.optimizers()
        fake = self(torch.randn(len(real), self.hparams.latent, device=self.device))

        loss = (self.verdict(real, is_real=True) + self.verdict(fake.detach(), is_real=False)) / 2
        discriminator.zero_grad()
        self.manual_backward(loss)
        discriminator.step()

        loss_of_generator = self.verdict(fake, is_real=True)
        generator.zero_grad()
        self.manual_backward(loss_of_generator)
        generator.step()

        losses = {"train/discriminator": loss, "train/generator": loss_of_generator}
        self.log_dict(losses, on_step=False, on_epoch=True)

    def verdict(self, pictures: Tensor, *, is_real: bool) -> Tensor:
        """Return the discriminator's loss if it should take these pictures for real ones, or for drawn ones."""
        logits = self.discriminator(pictures)
        return binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(is_real)))

    def validation_step(self, batch: Batch, _: int) -> None:
        (real,) = batch
        generator = torch.Generator().manual_seed(0)  # the same noise each time
        drawn = self(torch.randn(len(real), self.hparams.latent, generator=generator).to(self.device))
        directions = torch.randn(64, 100, generator=generator).to(self.device)
        self.log("val/distance", sliced_distance(real.flatten(1), drawn.flatten(1), directions))

    def configure_optimizers(self) -> list[Adam]:
        return [
            Adam(self.generator.parameters(), lr=self.hparams.generator_lr, betas=(0.5, 0.999)),
            Adam(self.discriminator.parameters(), lr=self.hparams.discriminator_lr, betas=(0.5, 0.999)),
        ]


def sliced_distance(ones: Tensor, others: Tensor, directions: Tensor) -> Tensor:
    """Return the sliced Wasserstein distance of two sets of n points, along directions [features, count]."""
    directions = directions / directions.norm(dim=0)
    ones, others = (points @ directions for points in (ones, others))
    return (ones.sort(dim=0).values - others.sort(dim=0).values).abs().mean()
