"""Pictures for people to look at."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from PIL import Image
from torch.nn.functional import pad


class DrawSamples(pl.Callback):
    """Writes a sheet of `side` x `side` drawn digits into `dirpath` at the end of the training."""

    def __init__(self, dirpath: str, side: int = 8) -> None:
        self.dirpath, self.side = Path(dirpath), side

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        noise = torch.randn(self.side**2, pl_module.hparams.latent, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            drawn = pl_module.eval()(noise.to(pl_module.device)).cpu()
        framed = pad(drawn, (1, 1, 1, 1), value=-1)
        sheet = framed.reshape(self.side, self.side, 10, 10).transpose(1, 2).reshape(10 * self.side, 10 * self.side)
        self.dirpath.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(((1 - sheet) * 127.5).byte().numpy())
        picture.resize((60 * self.side, 60 * self.side)).save(self.dirpath / "samples.png")
