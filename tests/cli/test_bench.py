"""``mdtdist bench`` on a model of a few parameters."""

import json
from pathlib import Path

import pytest
import torch

from mdtdist.cli.main import main
from mdtdist.errors import InputError
from mdtdist.evaluation.model_benchmark.latency import LatencyBenchmark, LatencyConfig, LatencyRun, shell_voxels
from mdtdist.training.config import from_dict, load_toml
from tests.pipelines.tiny import ARGS
from tests.training.tiny import write_toml

RECIPE = Path(__file__).parents[2] / "recipes" / "latency" / "image_large.toml"
ENCODER = {"img_size": 28, "patch_size": 14, "embed_dim": 8, "depth": 1, "num_heads": 2, "num_register_tokens": 1}


def values() -> dict:
    return {
        "name": "tiny",
        "num_voxels": 40,
        "cond_tokens": 6,
        "teacher": {"rescale_t": 3.0, "cfg_strength": 2.0, "cfg_interval": [0.5, 1.0]},
        "image_encoder": ENCODER,
        "models": {role: {"name": name, "args": args} for role, (name, args) in ARGS.items()},
    }


def test_the_command_reports_every_stage_and_evaluation(tmp_path, capsys):
    config, out = write_toml(tmp_path / "tiny.toml", values()), tmp_path / "out.json"
    assert main(["bench", str(config), "--runs", "1+2,4+4g", "--repeats", "2", "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads(out.read_text())
    first, second = record["runs"]
    assert first["name"] == "1+2" and first["nfe"] == [1, 2] and second["name"] == "4+4 guided"
    assert second["nfe"] == [8, 8]  # warped times 1, 0.9, 0.75, 0.5: all of them guided
    stages = ["conditioning", "structure", "structure_decode", "latent", "slat_decoder_gs"]
    assert list(first["seconds"]) == stages and all(len(first["seconds"][stage]) == 2 for stage in stages)
    assert record["num_voxels"] == 40 and record["weights"] == "random" and record["peak_memory_bytes"] > 0
    assert main(["bench", str(config), "--runs", "1+1", "--repeats", "1"]) == 0
    assert "peak memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "0+1"], "runs has '0+1'"),
        (["--repeats", "0"], "repeats is 0"),
        (["--dtype", "int8"], "dtype is 'int8'"),
        (["--device", "nowhere"], "'nowhere' is not available"),
    ],
)
def test_bad_arguments_are_told(tmp_path, capsys, arguments, message):
    config = write_toml(tmp_path / "tiny.toml", values())
    assert main(["bench", str(config), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_shell_has_the_asked_number_of_voxels_on_a_sphere():
    voxels = shell_voxels(64, 20000)
    assert voxels.shape == (20000, 3) and voxels.dtype == torch.int32 and len(voxels.unique(dim=0)) == 20000
    distance = (((voxels + 0.5) / 64 - 0.5).norm(dim=1) - 0.42).abs()
    left_out = torch.ones(64, 64, 64, dtype=torch.bool)
    left_out[tuple(voxels.long().T)] = False
    others = (((torch.argwhere(left_out) + 0.5) / 64 - 0.5).norm(dim=1) - 0.42).abs()
    assert distance.max() <= others.min() + 1e-6
    with pytest.raises(InputError, match="num_voxels is 9"):
        shell_voxels(2, 9)


def test_the_total_leaves_the_other_decoders_out():
    seconds = {"structure": [1.0, 3.0, 2.0], "latent": [1.0, 1.0, 1.0], "slat_decoder_mesh": [9.0, 9.0, 9.0]}
    assert LatencyRun(steps=(1, 1), guided=False, nfe=(1, 1), seconds=seconds).total == 3.0


def test_sixteen_bit_torsos(tmp_path):
    benchmark = LatencyBenchmark(from_dict(LatencyConfig, values()), dtype="bf16")
    types = {p.dtype for p in benchmark.networks["slat_flow_model"].parameters()}
    assert types == {torch.bfloat16, torch.float32}
    assert benchmark.measure((1, 1), guided=False, repeats=1).nfe == (1, 1)


def test_the_recipe_is_the_published_model():
    config = from_dict(LatencyConfig, load_toml(RECIPE))
    assert config.models["slat_flow_model"]["args"]["num_blocks"] == 24 and config.num_voxels == 20000
    assert config.cond_tokens == 5 + (518 // 14) ** 2
