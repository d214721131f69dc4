"""Checkpoint folders: what is in them, and what a damaged one leads to."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from mdtdist.errors import InputError
from mdtdist.training.checkpoint import TrainingState, find_checkpoint, load_checkpoint, save_checkpoint
from mdtdist.training.tensor_files import file_digest, write_tensors
from tests.training.toy import equal


def state(step: int) -> TrainingState:
    weights = {"student.w": torch.full((2, 3), float(step)), "student.n": torch.tensor(step)}
    return TrainingState(
        step=step, weights=weights, average={"w": torch.ones(2)}, optimizer={}, meta={"bad_steps": 1, "norms": [0.1]}
    )


def names(folder) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_tensor_files_are_safetensors(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "wide": torch.randn(3, 4, generator=generator, dtype=torch.float64),
        "turned": torch.randn(3, 4, generator=generator).T,
        "half": torch.randn(5, generator=generator).half(),
        "brain": torch.randn(5, generator=generator).bfloat16(),
        "single": torch.tensor(3.0),
        "flags": torch.tensor([True, False]),
        "none": torch.zeros(0, 4),
        "counts": torch.arange(4),
        'name with "quotes"': torch.arange(4, dtype=torch.int32),
    }
    digest = write_tensors(tmp_path / "x.safetensors", tensors)
    assert equal(load_file(tmp_path / "x.safetensors"), tensors)
    assert digest == file_digest(tmp_path / "x.safetensors")
    write_tensors(tmp_path / "empty.safetensors", {})
    assert load_file(tmp_path / "empty.safetensors") == {}


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    save_checkpoint(tmp_path, state(3))
    loaded = load_checkpoint(tmp_path)
    assert loaded.step == 3 and loaded.meta == state(3).meta
    assert equal(loaded.weights, state(3).weights) and equal(loaded.average, state(3).average)
    assert loaded.optimizer == {}


def test_every_file_is_in_the_manifest(tmp_path):
    save_checkpoint(tmp_path, state(3))
    folder = tmp_path / "checkpoints" / "step_3"
    digests = json.loads((folder / "manifest.json").read_text())["sha256"]
    assert {*digests, "manifest.json"} == {path.name for path in folder.iterdir()} and len(digests) == 4
    assert all(file_digest(folder / name) == digest for name, digest in digests.items())


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="names of open files are read from /proc")
def test_files_and_folders_are_flushed_before_and_after_the_rename(tmp_path, monkeypatch):
    events, fsync, rename = [], os.fsync, os.rename

    def note(handle):
        events.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "rename", lambda *names: (events.append("rename"), rename(*names)))
    save_checkpoint(tmp_path, state(3))
    files = {"weights.safetensors", "average.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}
    assert set(events[:5]) == files and events[4:] == ["manifest.json", ".step_3.new", "rename", "checkpoints"]


def test_the_newest_are_kept(tmp_path):
    for step in (2, 4, 6, 11):
        save_checkpoint(tmp_path, state(step))
    assert names(tmp_path) == ["step_11", "step_6"]
    save_checkpoint(tmp_path, state(12), keep=3)
    assert names(tmp_path) == ["step_11", "step_12", "step_6"]
    assert find_checkpoint(tmp_path).name == "step_12"


def test_a_step_may_be_saved_again(tmp_path):
    save_checkpoint(tmp_path, state(3))
    again = TrainingState(**{**vars(state(3)), "meta": {"bad_steps": 2}})
    save_checkpoint(tmp_path, again)
    assert load_checkpoint(tmp_path).meta == {"bad_steps": 2} and names(tmp_path) == ["step_3"]


def test_death_while_a_step_is_saved_again_loses_nothing(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, state(3))
    rename = type(tmp_path).rename

    def die(path, target):
        if path.name == ".step_3.new":
            raise KeyboardInterrupt
        return rename(path, target)

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(type(tmp_path), "rename", die)
            with pytest.raises(KeyboardInterrupt):
                save_checkpoint(tmp_path, state(3))
        assert load_checkpoint(tmp_path).step == 3
    save_checkpoint(tmp_path, state(4), keep=1)
    assert names(tmp_path) == ["step_4"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: flip(folder / "weights.safetensors"), "weights.safetensors is not what was written"),
        (lambda folder: flip(folder / "state.json"), "state.json is not what was written"),
        (lambda folder: os.truncate(folder / "average.safetensors", 9), "average.safetensors is not what was written"),
        (lambda folder: (folder / "optimizer.safetensors").unlink(), "optimizer.safetensors: No such file"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: No such file"),
        (lambda folder: os.truncate(folder / "manifest.json", 30), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json cannot be read"),
    ],
)
def test_damage_is_named_and_the_one_before_counts(damage, words, tmp_path, caplog):
    save_checkpoint(tmp_path, state(3))
    save_checkpoint(tmp_path, state(6))
    damage(tmp_path / "checkpoints" / "step_6")
    assert load_checkpoint(tmp_path).step == 3
    assert "step_6 is damaged" in caplog.text and words in caplog.text
    save_checkpoint(tmp_path, state(5))  # the damaged one must not count among those kept
    assert names(tmp_path) == ["step_3", "step_5"]


def test_nothing_but_damage_is_no_fresh_start(tmp_path):
    save_checkpoint(tmp_path, state(3))
    flip(tmp_path / "checkpoints" / "step_3" / "weights.safetensors")
    with pytest.raises(InputError, match="no checkpoint in .* is whole; remove .* to start over"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_of_an_earlier_version_is_no_fresh_start(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.json").write_text("{}")
    with pytest.raises(InputError, match="of an earlier version"):
        load_checkpoint(tmp_path)


def test_a_process_that_does_not_write_leaves_no_trace(tmp_path):
    save_checkpoint(tmp_path, state(3), writes=False)
    assert list(tmp_path.iterdir()) == []
