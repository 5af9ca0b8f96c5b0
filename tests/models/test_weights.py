from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from besom.models.weights import StateFile, keep_state, load_state
from besom.system.store_errors import says_disk_is_full
from tests.training.real_models import Classifier, ExtraState, FrozenBackbone, Lazy, Tied


@pytest.mark.parametrize("kind", [Classifier, Tied, Lazy, ExtraState, FrozenBackbone])
@pytest.mark.parametrize("limit_mb", [0, 1])
def test_a_state_is_put_back_from_memory_and_from_a_file(tmp_path: Path, kind: type[pl.LightningModule], limit_mb: int):
    module, file = kind(), tmp_path / "trial" / "best.pt"
    module.network(torch.rand(1, 4))
    before = {name: weight.clone() for name, weight in module.network.named_parameters()}
    state = keep_state(module, file, limit_mb=limit_mb)
    assert isinstance(state, StateFile) == file.exists() == (limit_mb == 0)
    with torch.no_grad():
        for weight in module.network.parameters():
            weight.zero_()
    load_state(module, state)
    assert all(torch.equal(weight, before[name]) for name, weight in module.network.named_parameters())
    assert not file.exists()


def test_a_better_state_replaces_the_file_and_one_that_fails_leaves_it_whole(tmp_path: Path):
    module, file = Classifier(), tmp_path / "best.pt"
    keep_state(module, file, limit_mb=0)
    with torch.no_grad():
        module.network[0].bias.fill_(3)
    state = keep_state(module, file, limit_mb=0)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]
    file.with_name("best.pt.part").mkdir()  # nothing can be written there
    with pytest.raises(OSError, match=r"best\.pt\.part"):
        keep_state(Classifier(), file, limit_mb=0)
    load_state(module, state)
    assert module.network[0].bias.eq(3).all()


def test_a_full_disk_is_said_by_its_own_error_and_leaves_the_file_of_before_whole(tmp_path: Path):
    module, file = Classifier(width=20_000), tmp_path / "best"
    state = keep_state(module, file, limit_mb=0)
    beside = file.with_name("best.part")
    beside.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as raised:
        keep_state(module, file, limit_mb=0)
    assert says_disk_is_full(raised.value)
    load_state(module, state)
