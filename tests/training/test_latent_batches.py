"""Which objects the latent stage sees."""

from dataclasses import replace
from pathlib import Path

import pytest

from mdtdist.data import files
from mdtdist.errors import InputError
from mdtdist.training.config import from_dict
from mdtdist.training.latent_batches import SparseBatches, StageData
from tests.training.tiny import stage_values, write_prepared
from tests.training.toy import draw


@pytest.fixture
def folder(tmp_path) -> Path:
    """Objects of 42, 56, ... voxels, the smallest two for validation."""
    data = write_prepared(tmp_path)
    for row, split in zip(data.rows.values(), ["val"] * 2 + ["train"] * 5 + ["test"], strict=True):
        row["split"] = split
    files.write_csv(tmp_path / "metadata.csv", list(data.rows.values()), columns=files.COLUMNS)
    return tmp_path


def test_large_objects_are_left_out_with_their_conditions(folder, networks):
    config = from_dict(StageData, stage_values("latent", folder, networks))
    everything = SparseBatches(config, seed=0, device="cpu")
    assert [feats.shape[1] for feats, _ in everything.items["train"]] == [70, 84, 98, 112, 126]
    batches = SparseBatches(replace(config, max_voxels=98), seed=0, device="cpu")
    assert [feats.shape[1] for feats, _ in batches.items["train"]] == [70, 84, 98]
    assert (batches.conditions["train"].tokens == everything.conditions["train"].tokens[:3]).all()
    assert (batches.normalization.mean == everything.normalization.mean).all()
    drawn = {n for step in range(6) for n in batches.train(draw(step, 2, seed=step)).layout.lengths}
    assert drawn == {70, 84, 98}
    smaller = SparseBatches(replace(config, max_voxels=70), seed=0, device="cpu")
    assert len(smaller.items["val"]) == 2 and len(smaller.conditions["train"].tokens) == 1


def test_validation_objects_are_limited_too(prepared, networks):
    config = from_dict(StageData, stage_values("latent", prepared.path, networks) | {"max_voxels": 112})
    batches = SparseBatches(config, seed=0, device="cpu")
    assert [batch.layout.lengths for batch, _ in batches.validation()] == [(112,)] * 4
    assert len(batches.items["train"]) == 5 and len(batches.conditions["val"].tokens) == 1


def test_a_limit_that_leaves_nothing_is_named(prepared, networks):
    config = from_dict(StageData, stage_values("latent", prepared.path, networks) | {"max_voxels": 5})
    with pytest.raises(InputError, match="max_voxels is 5, but every object of split train has 42 or more"):
        SparseBatches(config, seed=0, device="cpu")
    with pytest.raises(ValueError, match="at least 1"):
        replace(config, max_voxels=0)
