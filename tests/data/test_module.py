"""The data module: parts, digests and caches, and Lightning's own loop over it."""

from __future__ import annotations

import gc
import weakref

import pytest
import pytorch_lightning as pl
import torch

from besom.data import Batches, InMemoryDataModule, Source, Task
from besom.data.sources import digits, line, random
from besom.errors import ConfigError, DataError


def table(n=100, **changes):
    """A source of `n` rows whose one feature and target are the row's number."""
    rows = torch.arange(n, dtype=torch.float32)
    fields = {
        "name": "table",
        "task": Task.REGRESSION,
        "x": rows[:, None],
        "y": rows,
        "feature_names": ("row",),
    }
    return Source(**(fields | changes))


def rows_of(loader):
    return torch.cat([y for batches in loader for _, y in batches]).tolist()


class Recorder(pl.LightningModule):
    """Fits one linear unit by hand, a chunk per step, and records its batches."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.unit = torch.nn.Linear(1, 1)
        self.epochs, self.validated = [], []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def on_train_epoch_start(self):
        self.epochs.append([])

    def training_step(self, batches, _index):
        assert isinstance(batches, Batches)
        optimizer = self.optimizers()
        for x, y in batches:
            optimizer.zero_grad()
            loss = (self.unit(x)[:, 0] - y / 100).square().mean()
            self.manual_backward(loss)
            optimizer.step()
            self.epochs[-1].extend(y.tolist())
        self.log("train/loss", loss, on_epoch=True, batch_size=batches.rows)

    def validation_step(self, batches, _index):
        self.validated.extend(y for _, target in batches for y in target.tolist())

    test_step = validation_step


def trainer(tmp_path, **options):
    return pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        **options,
    )


def test_lightning_fits_stretches_and_sees_each_row_once_an_epoch_in_the_loaders_order(tmp_path):
    data, model = InMemoryDataModule(table(), batch_size=8, eval_batch_size=7), Recorder()
    trainer(tmp_path).fit(model, data)
    loader = InMemoryDataModule(table(), batch_size=8).train_dataloader()
    assert model.epochs == [rows_of(loader) for _ in range(3)]
    assert sorted(model.epochs[0] + model.validated[:20] + rows_of(data.test_dataloader())) == list(range(100))


def test_lightning_fits_without_a_validation_part_and_tests_on_the_test_part(tmp_path):
    data, model = InMemoryDataModule(random(rows=10, features=1), val_fraction=0), Recorder()
    fit = trainer(tmp_path)
    fit.fit(model, data)
    assert (data.val_dataloader(), model.validated) == ([], [])
    fit.test(model, data, verbose=False)
    assert model.validated == random(rows=10, features=1).test_y.tolist()


def test_parts_have_their_sizes_and_share_no_row():
    data = InMemoryDataModule(table(), val_fraction=0.1, test_fraction=0.3)
    parts = [rows_of(part) for part in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())]
    assert data.sizes == {"train": 60, "val": 10, "test": 30}
    assert [len(part) for part in parts] == [60, 10, 30]
    assert sorted(row for part in parts for row in part) == list(range(100))


def test_an_official_test_part_replaces_the_test_fraction():
    source = table(test_x=torch.zeros(7, 1), test_y=torch.arange(7.0))
    data = InMemoryDataModule(source, test_fraction=0.5)
    assert data.sizes == {"train": 80, "val": 20, "test": 7}
    assert rows_of(data.test_dataloader()) == list(range(7))


def test_no_fraction_and_no_official_test_part_make_no_test_part():
    data = InMemoryDataModule(line(), val_fraction=0, test_fraction=0, batch_size=None, scaling="none")
    assert data.sizes == {"train": 10, "val": 0, "test": 0}
    assert data.test_dataloader() == []
    (((x, y),),) = data.train_dataloader()
    assert torch.equal(x[:, 0] + 1, y)


def test_every_part_is_scaled_by_the_training_parts_statistics():
    data = InMemoryDataModule(table(), scaling="minmax")
    train = torch.tensor(rows_of(data.train_dataloader()))
    for batches in data.test_dataloader():
        for x, y in batches:
            assert torch.allclose(x[:, 0], (y - train.min()) / (train.max() - train.min()))
    assert data.scaler.shift.item() == train.min()


def test_classes_keep_their_share_in_every_part():
    data = InMemoryDataModule(digits(), val_fraction=0.25, test_fraction=0.25)
    whole = digits().y.bincount() / 1797
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        y = torch.tensor(rows_of(loader))
        assert torch.allclose(y.bincount() / len(y), whole, atol=1 / len(y))


def test_limit_keeps_so_many_rows_with_every_class_among_them():
    data = InMemoryDataModule(digits(), limit=100)
    assert data.sizes == {"train": 60, "val": 20, "test": 20}
    assert set(rows_of(data.train_dataloader())) == set(range(10))


def test_a_limit_beyond_the_rows_changes_nothing():
    assert InMemoryDataModule(table(), limit=1000).digest == InMemoryDataModule(table()).digest


def test_the_spec_is_known_without_preparing_the_data():
    data = InMemoryDataModule(table(n=1), val_fraction=0.9, test_fraction=0)  # too few rows to split
    assert (data.spec.task, data.spec.in_features, data.spec.out_features) == (Task.REGRESSION, 1, 1)
    assert data.feature_names == ("row",)


def test_equal_settings_give_equal_digests_and_any_change_to_the_data_another():
    same = [InMemoryDataModule(table(), batch_size=size).digest for size in (1, 64)]
    assert same[0] == same[1]
    others = [
        InMemoryDataModule(table(), split_seed=1).digest,
        InMemoryDataModule(table(), scaling="none").digest,
        InMemoryDataModule(table(), limit=50).digest,
        InMemoryDataModule(table(y=torch.arange(1.0, 101.0))).digest,
    ]
    assert len({same[0], *others}) == 5
    assert len(same[0]) == 64


def test_the_next_trial_on_the_same_data_gets_the_same_tensors():
    source = table()
    first = InMemoryDataModule(source, batch_size=8).train_dataloader()
    second = InMemoryDataModule(source, batch_size=16, shuffle_seed=3).train_dataloader()
    assert first.x.data_ptr() == second.x.data_ptr()


def test_prepared_data_is_dropped_once_two_others_were_used():
    loader = InMemoryDataModule(table(), split_seed=5).train_dataloader()
    held = weakref.ref(loader.x)
    del loader
    for seed in (6, 7):
        InMemoryDataModule(table(), split_seed=seed).setup("fit")
    gc.collect()
    assert held() is None


def test_the_test_part_is_not_scaled_before_it_is_asked_for():
    # Torch mixes 8-bit floats with no other type, so that scaling them raises.
    source = table(test_x=torch.zeros(5, 1).to(torch.float8_e4m3fn), test_y=torch.zeros(5))
    data = InMemoryDataModule(source)
    data.setup("fit")
    assert (data.sizes["test"], len(data.digest)) == (5, 64)
    with pytest.raises(RuntimeError):
        data.setup("test")


def test_setup_twice_prepares_once():
    data = InMemoryDataModule(table())
    data.setup("fit")
    x = data.train_dataloader().x
    data.setup("fit")
    assert data.train_dataloader().x is x


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, r"data\.batch_size: 0 is below 1; give 1 or more, or null for full batches"),
        ({"batch_size": 2.5}, r"data\.batch_size: 2\.5 is not a whole number"),
        ({"eval_batch_size": -1}, r"data\.eval_batch_size: -1 is below 1"),
        ({"limit": 0}, r"data\.limit: 0 is below 1"),
        ({"split_seed": -1}, r"data\.split_seed: -1 is below 0"),
        ({"shuffle_seed": True}, r"data\.shuffle_seed: True is not a whole number"),
        (
            {"val_fraction": 1.0},
            r"data\.val_fraction: 1\.0 is not a fraction; give 0 or more, and less than 1",
        ),
        ({"test_fraction": -0.1}, r"data\.test_fraction: -0\.1 is not a fraction"),
        ({"val_fraction": float("nan")}, r"data\.val_fraction: nan is not a fraction"),
        (
            {"val_fraction": 0.5, "test_fraction": 0.5},
            r"data\.val_fraction: with data\.test_fraction it makes 1,",
        ),
        ({"scaling": "robust"}, r"data\.scaling: 'robust' is unknown"),
    ],
)
def test_settings_out_of_range_are_refused_by_their_key(settings, message):
    with pytest.raises(ConfigError, match=message):
        InMemoryDataModule(table(), **settings)


def test_too_few_rows_for_a_validation_part_are_refused_with_the_name_of_the_data():
    data = InMemoryDataModule(table(n=2), val_fraction=0.1)
    with pytest.raises(DataError, match=r"table: data\.val_fraction 0\.1 of 2 rows is not one row"):
        data.setup("fit")


def test_a_limit_below_the_number_of_classes_is_refused_with_the_name_of_the_data():
    with pytest.raises(DataError, match="digits: 5 rows cannot hold a sample of each of 10 classes"):
        InMemoryDataModule(digits(), limit=5).setup("fit")
