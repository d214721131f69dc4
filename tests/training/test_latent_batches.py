"""Which objects the latent stage sees."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mdtdist.data import files
from mdtdist.errors import InputError
from mdtdist.training.config import from_dict
from mdtdist.training.latent_batches import DenseBatches, SparseBatches, StageData, balance
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


def test_shards_by_hand():
    # 9 to the first, 8 to the second, 7 to the second (8 < 9), which is full then.
    assert balance([1, 9, 7, 8], 2) == [[0, 1], [2, 3]]
    assert balance([3, 3, 3, 3], 2) == [[0, 2], [1, 3]]
    assert balance([9, 1, 1, 1], 2) == [[0, 3], [1, 2]]  # equal counts come first
    assert balance([4, 2, 9], 1) == [[0, 1, 2]] and balance([4, 2, 9], 3) == [[2], [0], [1]]


@given(st.lists(st.integers(1, 32768), min_size=1, max_size=64), st.integers(1, 8))
def test_shards_have_equal_counts_and_about_equal_tokens(lengths, num_shards):
    lengths = lengths[: len(lengths) // num_shards * num_shards] or [1] * num_shards
    shards = balance(lengths, num_shards)
    assert sorted(sum(shards, [])) == list(range(len(lengths)))
    assert {len(shard) for shard in shards} == {len(lengths) // num_shards}
    assert all(shard == sorted(shard) for shard in shards)
    tokens = [sum(lengths[i] for i in shard) for shard in shards]
    assert max(tokens) - min(tokens) <= max(lengths)
    assert balance(lengths, 1) == [list(range(len(lengths)))]


@pytest.mark.parametrize("num_shards", [0, 2])
def test_shards_of_unequal_counts_are_refused(num_shards):
    with pytest.raises(ValueError, match=f"3 samples cannot be divided evenly into {num_shards}"):
        balance([1, 2, 3], num_shards)


@pytest.mark.parametrize(("stage", "batches"), [("structure", DenseBatches), ("latent", SparseBatches)])
def test_shards_of_a_batch_are_its_objects(stage, batches, prepared, networks):
    batches = batches(from_dict(StageData, stage_values(stage, prepared.path, networks)), seed=0, device="cpu")
    whole = batches.train(draw(1, 4))
    parts = [batches.train(draw(1, 4, shard=shard, num_shards=2)) for shard in (0, 1)]
    assert sorted(parts[0].ids + parts[1].ids) == sorted(whole.ids)
    assert [part.layout.num_samples for part in parts] == [2, 2] and all(len(part.cond) == 2 for part in parts)
    names = [prepared.ids("train")[i] for i in batches.epochs.batch(1, 4)]
    assert list(whole.ids) == names
    if stage == "latent":
        lengths = {sha: n for part in parts for sha, n in zip(part.ids, part.layout.lengths, strict=True)}
        assert lengths == {sha: len(prepared.voxels(sha)) for sha in whole.ids}
        expected = balance([lengths[sha] for sha in names], 2)
        assert [list(part.ids) for part in parts] == [[names[i] for i in shard] for shard in expected]


def test_a_shard_draws_with_its_own_generator(prepared, networks):
    batches = SparseBatches(from_dict(StageData, stage_values("latent", prepared.path, networks)), seed=0, device="cpu")
    first, again, other = (batches.train(draw(1, 4, seed=seed, shard=1, num_shards=2)) for seed in (0, 0, 3))
    assert torch.equal(first.x_0, again.x_0) and torch.equal(first.cond, again.cond)
    assert not torch.equal(first.cond, other.cond)
