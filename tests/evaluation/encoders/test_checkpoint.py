"""Checkpoints in the wrappers they are published in; files that are damaged or could run code are refused."""

import argparse
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.checkpoint import (
    checkpoint_digest,
    count_blocks,
    count_heads,
    load_exactly,
    read_checkpoint,
)

WEIGHTS = {"a.weight": torch.tensor([[1.5, -2.0]]), "b": torch.tensor(3, dtype=torch.int64)}


def _same(found):
    return found.keys() == WEIGHTS.keys() and all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"epoch": 3, "state_dict": tensors, "optimizer": {"lr": 0.1}, "best_acc1": 0.5},
        lambda tensors: {"module": tensors},
        lambda tensors: {"model": {"state_dict": tensors}},
        lambda tensors: {"state_dict": {f"module.{name}": value for name, value in tensors.items()}},
        lambda tensors: {name.replace(".", ".module."): value for name, value in tensors.items()},
        lambda tensors: {"state_dict": tensors, "args": argparse.Namespace(model="PointBERT", lr=1e-3)},
        lambda tensors: {**tensors, "note": "not a tensor"},
    ],
)
def test_wrappers_are_opened(tmp_path, wrap):
    torch.save(wrap(WEIGHTS), tmp_path / "model.pt")
    assert _same(read_checkpoint(tmp_path / "model.pt"))


def test_old_torch_files_and_safetensors_are_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file({f"module.{name}": value for name, value in WEIGHTS.items()}, tmp_path / "new.safetensors")
    assert _same(read_checkpoint(tmp_path / "old.pth")) and _same(read_checkpoint(tmp_path / "new.safetensors"))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_and_other_types_stay(tmp_path, dtype, suffix):
    tensors = {"a.weight": WEIGHTS["a.weight"].to(dtype), "b": WEIGHTS["b"]}
    path = tmp_path / f"model{suffix}"
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    found = read_checkpoint(path)
    assert found["a.weight"].dtype == torch.float32 and found["b"].dtype == torch.int64 and _same(found)


def test_tensors_outlive_their_file(tmp_path):
    torch.save(WEIGHTS, tmp_path / "model.pt")
    found = read_checkpoint(tmp_path / "model.pt")
    (tmp_path / "model.pt").write_bytes(bytes((tmp_path / "model.pt").stat().st_size))
    assert _same(found)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_only_names_with_a_prefix_are_kept(tmp_path, suffix):
    path, tensors = tmp_path / f"model{suffix}", {"module.a.x": torch.ones(1), "text.a.y": torch.ones(1)}
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    assert set(read_checkpoint(path, prefixes=("a.",))) == {"a.x"}
    with pytest.raises(InputError, match="no tensor named visual"):
        read_checkpoint(path, prefixes=("visual.",))


class _Harmful:
    def __reduce__(self):
        return (exec, ("raise SystemExit('it ran')",))


def test_a_file_that_could_run_code_is_refused(tmp_path):
    torch.save({"state_dict": WEIGHTS, "args": _Harmful()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="could run code"):
        read_checkpoint(tmp_path / "model.pt")


def test_a_namespace_cannot_smuggle_another_class(tmp_path):
    torch.save({"state_dict": WEIGHTS, "args": argparse.Namespace(x=_Harmful())}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="could run code"):
        read_checkpoint(tmp_path / "model.pt")


def test_torchscript_is_refused_with_the_way_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "ViT-L-14.pt", "w") as archive:
        archive.writestr("model/constants.pkl", pickle.dumps(()))
        archive.writestr("model/data.pkl", pickle.dumps(()))
    with pytest.raises(InputError, match="TorchScript.*openai/clip-vit-large-patch14"):
        read_checkpoint(tmp_path / "ViT-L-14.pt")


@pytest.mark.parametrize(
    ("content", "message"), [([1, 2], "holds a list"), ({"epoch": 3}, "no tensor at all"), ({"module": 3}, "no tensor")]
)
def test_files_without_weights_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short", b"\x80\x02}q\x00."])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(InputError, match="model.pt"):
        read_checkpoint(tmp_path / "model.pt")


def test_every_cut_of_a_file_is_refused(tmp_path):
    torch.save(WEIGHTS, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for size in range(0, len(whole), 97):
        (tmp_path / "cut.pt").write_bytes(whole[:size])
        with pytest.raises(InputError):
            read_checkpoint(tmp_path / "cut.pt")


def test_a_missing_file_is_reported_as_a_path(tmp_path):
    with pytest.raises(InputError, match="nowhere.pt is missing"):
        read_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(InputError, match="nowhere.pt"):
        checkpoint_digest(tmp_path / "nowhere.pt")


def test_a_tensor_under_two_names_is_refused(tmp_path):
    torch.save({"a": torch.ones(1), "module.a": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="twice"):
        read_checkpoint(tmp_path / "model.pt")


def test_digest_is_the_start_of_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert checkpoint_digest(tmp_path / "file") == "ba7816bf8f01"


def _empty(*sizes):
    with torch.device("meta"):
        return nn.Linear(*sizes)


def test_exact_loading_freezes_and_passes_over_what_is_unused(tmp_path):
    network = _empty(2, 1)
    tensors = {"weight": torch.ones(1, 2), "bias": torch.zeros(1), "head.x": torch.ones(3)}
    load_exactly(network, tensors, path=tmp_path, unused=r"head\..*")
    assert network.weight is not None and not network.weight.requires_grad and not network.training
    assert network(torch.tensor([[1.0, 2.0]])).item() == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "lacks the tensor 'bias'"),
        ({"weight": torch.ones(2, 2)}, r"'weight' has shape \(2, 2\); Linear expects \(1, 2\)"),
        ({"head.xy": torch.ones(1)}, "'head.xy', which Linear does not know"),
        ({"x.head.y": torch.ones(1)}, "'x.head.y'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    tensors = {"weight": torch.ones(1, 2), "bias": torch.zeros(1), **change}
    tensors = {name: value for name, value in tensors.items() if value is not None}
    with pytest.raises(InputError, match=message):
        load_exactly(_empty(2, 1), tensors, path=tmp_path, unused=r"head\.x")


def test_blocks_and_heads_are_counted(tmp_path):
    names = dict.fromkeys(["a.blocks.0.x", "a.blocks.11.y", "a.blocks.2.z", "blocks.40.x"], torch.ones(1))
    assert count_blocks(names, "a.blocks.") == 12 and count_blocks(names, "b.") == 0
    assert count_heads(768, path=tmp_path) == 12 and count_heads(1408, {1408: 16}, path=tmp_path) == 16
    with pytest.raises(InputError, match="100 channels"):
        count_heads(100, path=tmp_path)
