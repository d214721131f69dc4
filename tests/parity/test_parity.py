"""The networks, the sampler and the whole chain reproduce the recorded numbers of the reference implementation."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity.families import FAMILIES
from tests.parity.replay import largest_difference, main, replay, tolerance

DATA = Path(__file__).parent / "data"


RECORDED = sorted(path.stem for path in DATA.glob("*.json"))


def test_every_family_has_a_recorded_case_here_or_a_reason():
    # The smallest mesh decoder has 2.5 MB of weights; tests/models/test_slat_mesh_decoder.py replays its last blocks.
    assert set(FAMILIES) - set(RECORDED) == {"slat_dec_mesh"}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_case(name):
    # Observed differences: at most 1.7e-6 (ss_dec).
    verdict = replay(DATA, name)
    assert verdict.status == "ok", verdict


def _copy(folder, name, change=None):
    tensors = load_file(DATA / f"{name}.safetensors")
    if change is not None:
        tensors[change] = tensors[change] + 1e-2
    save_file(tensors, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text((DATA / f"{name}.json").read_text())


@pytest.mark.parametrize("change", ["output.3.samples", "input.neg_cond"])
def test_a_changed_number_fails(tmp_path, capsys, change):
    _copy(tmp_path, "sampler", change)
    assert main([str(tmp_path)]) == 1
    assert "differs" in capsys.readouterr().out


def test_unknown_family_is_missing_unless_left_out(tmp_path, capsys):
    _copy(tmp_path, "sampler")
    (tmp_path / "unheard_of.json").write_text("{}")
    assert main([str(tmp_path)]) == 1
    assert "unheard_of                   missing" in capsys.readouterr().out
    assert main([str(tmp_path), "--only", "samp"]) == 0


def test_broken_case_is_reported_and_the_others_run(tmp_path, capsys):
    _copy(tmp_path, "sampler")
    (tmp_path / "ss_dec.json").write_text("{}")
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "ss_dec                       error" in out and "sampler                      ok" in out


def test_nothing_to_replay_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert main([str(DATA), "--only", "no_such"]) == 2
    assert "no_such" in capsys.readouterr().err


def test_difference_is_relative_to_the_largest_value_above_one():
    expected = {"a": torch.tensor([10.0, -100.0]), "b": torch.tensor([0.1])}
    assert largest_difference(expected, expected)[0] == 0
    assert largest_difference({**expected, "a": torch.tensor([11.0, -100.0])}, expected) == (pytest.approx(0.01), "a")
    assert largest_difference({**expected, "b": torch.tensor([0.3])}, expected) == (pytest.approx(0.2), "b")


@pytest.mark.parametrize("value", [torch.tensor([float("nan")]), torch.tensor([[0.1]]), None])
def test_nan_wrong_shape_and_absence_are_infinite(value):
    actual = {} if value is None else {"b": value}
    assert largest_difference(actual, {"b": torch.tensor([0.1])})[0] == float("inf")


def test_tolerances():
    assert tolerance("ss_flow") == 1e-5 and tolerance("mdt_cm_mp1") == 5e-5
    assert tolerance("eval_ulip_xyz", "pos") == 5e-6 and tolerance("eval_dinov2", "pos.28x28") == 1e-5
