"""Checkpoints of the TRELLIS trainer."""

import os

import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.models.trainer_checkpoint import TrainerFile, cast_like, describe, latest_files, read_state_dict

NAMES = (
    "denoiser_step0004000.pt",
    "denoiser_step0006000.pt",
    "denoiser_ema0.9999_step0004000.pt",
    "denoiser_ema0.9999_step0006000.pt",
    "denoiser_ema0.99_step0006000.pt",
    "teacher_step0006000.pt",
    "misc_step0006000.pt",
)


def test_names_tell_network_average_and_step(tmp_path):
    assert TrainerFile.parse(tmp_path / NAMES[3]) == TrainerFile(
        path=tmp_path / NAMES[3], model="denoiser", ema_rate=0.9999, step=6000
    )
    assert TrainerFile.parse(tmp_path / NAMES[0]).ema_rate is None
    assert TrainerFile.parse(tmp_path / "model.pt") is None
    assert TrainerFile.parse(tmp_path / "denoiser_step0004000.safetensors") is None


def test_the_newest_of_every_run_is_found(tmp_path):
    for run in ("ss/ckpts", "slat/ckpts"):
        (tmp_path / run).mkdir(parents=True)
        for name in NAMES:
            (tmp_path / run / name).touch()
    for ema, name in ((True, NAMES[3]), (False, NAMES[1])):
        assert latest_files(tmp_path, ema=ema) == [tmp_path / "slat/ckpts" / name, tmp_path / "ss/ckpts" / name]


def test_other_names_are_taken_as_they_are_and_a_missing_kind_is_named(tmp_path):
    (tmp_path / "flow.pt").touch()
    assert latest_files(tmp_path, ema=True) == [tmp_path / "flow.pt"]
    (tmp_path / NAMES[0]).touch()
    with pytest.raises(InputError, match="no checkpoint of a moving average, only denoiser_step0004000.pt; --plain"):
        latest_files(tmp_path, ema=True)


def test_tensors_come_back(tmp_path):
    tensors = {"a": torch.rand(2, 3), "n": torch.tensor(3)}
    torch.save(tensors, tmp_path / "x.pt")
    again = read_state_dict(tmp_path / "x.pt")
    assert all(torch.equal(again[key], value) for key, value in tensors.items())
    assert describe(again)["a"].shape == (2, 3)


class Harmful:
    """Unpickling this would leave a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_is_never_run(tmp_path):
    torch.save({"a": Harmful(tmp_path / "harm")}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="x.pt is no plain checkpoint: it holds more than tensors"):
        read_state_dict(tmp_path / "x.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.pt", [torch.zeros(1)], "holds a list; expected a state dict"),
        ("x.pt", {}, "holds a dict; expected a state dict"),
        ("misc_step0000001.pt", {"step": 3}, "'step' is a int; expected tensors only .the trainer's misc file"),
        ("x.pt", {"a": torch.tensor([1.0, float("nan")])}, "tensor 'a' is not finite"),
    ],
)
def test_what_is_no_network_is_refused(tmp_path, name, content, words):
    torch.save(content, tmp_path / name)
    with pytest.raises(InputError, match=f"{name}.*{words}"):
        read_state_dict(tmp_path / name)


def test_damaged_files_are_named(tmp_path):
    torch.save({"a": torch.rand(1000)}, tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 10):
        (tmp_path / "x.pt").write_bytes(whole[:size])
        with pytest.raises(InputError, match="x.pt cannot be read as a PyTorch checkpoint|x.pt is no plain checkpoint"):
            read_state_dict(tmp_path / "x.pt")
    with pytest.raises(InputError, match="gone.pt is missing"):
        read_state_dict(tmp_path / "gone.pt")


def test_values_beyond_the_stored_type_are_named(tmp_path):
    stored = describe({"a": torch.zeros(1, dtype=torch.float16)})
    assert cast_like({"a": torch.tensor([0.1])}, stored, path=tmp_path)["a"].dtype == torch.float16
    with pytest.raises(InputError, match="the tensor 'a' exceeds the range of torch.float16"):
        cast_like({"a": torch.tensor([1e6])}, stored, path=tmp_path)
