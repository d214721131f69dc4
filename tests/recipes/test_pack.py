"""``recipes/pack.py``: trained networks become a model that generates."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mdtdist.models import load, save
from mdtdist.pipelines import PipelineConfig
from tests.training.tiny import DECODERS, ENCODERS, FLOWS, MESH_DECODER, randomized, write_models

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def pack():
    spec = importlib.util.spec_from_file_location("pack", RECIPES / "pack.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Run folders as the recipes leave them."""
    folder = write_models(tmp_path_factory.mktemp("runs"))
    for stage, short, decoder in (("structure", "ss", "ss_dec"), ("latent", "slat", "slat_dec_gs")):
        save(randomized(*ENCODERS[stage]), folder / f"{short}_vae" / f"{short}_enc")
        save(randomized(*DECODERS[stage]), folder / f"{short}_vae" / decoder)
        save(randomized(*FLOWS[stage], seed=1), folder / f"{short}_flow" / "flow")
        for seed, variant in enumerate(("endpoint", "paper"), 2):
            save(randomized(*FLOWS[stage], seed=seed), folder / f"{short}_student_{variant}" / "student")
    save(randomized(*MESH_DECODER), folder / "slat_dec_mesh" / "slat_dec_mesh")
    statistics = {"mean": [0.5] * 4, "std": [2.0] * 4}
    (folder / "slat_vae" / "slat_normalization.json").write_text(json.dumps(statistics))
    return folder


def packing(pack, runs: Path, out: Path, variant: str | None = None):
    return replace(pack.read_packing(RECIPES / "mini", variant), runs=runs, out=out)


def test_packed_model_holds_every_network_in_half_precision(pack, runs, tmp_path):
    given = packing(pack, runs, tmp_path)
    assert pack.pack(given) == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    config = PipelineConfig.read(tmp_path)
    assert config.flows == ("student", "teacher") and config.slat_mean == (0.5,) * 4 and config.slat_std == (2.0,) * 4
    assert config.time_scale == 60.0 and config.default_decoders == ("gs",)
    assert config.samplers["teacher", "latent"].cfg_strength == 3.0 and config.samplers["student", "latent"].steps == 1
    assert set(config.models) == set(given.networks)
    for role, name in config.models.items():
        tensors, original = load_file(tmp_path / f"{name}.safetensors"), load(runs / given.networks[role][0])
        assert all(value.dtype == torch.float16 for value in tensors.values() if value.is_floating_point())
        for key, value in original.state_dict().items():
            torch.testing.assert_close(tensors[key].float(), value, atol=1e-3, rtol=1e-3)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".json", ".safetensors")]


def test_the_table_of_mini_describes_the_shipped_model(pack):
    given = pack.read_packing(RECIPES / "mini")
    shipped = PipelineConfig.read(RECIPES.parent / given.out)
    assert {role: name for role, (_, name) in given.networks.items()} == dict(shipped.models)
    assert (shipped.time_scale, shipped.default_decoders) == (given.time_scale, given.default_decoders)
    for stage in pack.STAGES:
        assert shipped.samplers["teacher", stage].cfg_strength == given.guidance[stage]


def test_students_of_the_paper_are_packed_beside_never_over_the_shipped_model(pack, runs, tmp_path):
    assert pack.read_packing(RECIPES / "mini", "paper").out != pack.read_packing(RECIPES / "mini").out
    pack.pack(packing(pack, runs, tmp_path, "paper"))
    packed = load_file(tmp_path / "ckpts" / "ss_flow_student.safetensors")
    original = load(runs / "ss_student_paper" / "student").state_dict()
    torch.testing.assert_close(packed["out_layer.weight"].float(), original["out_layer.weight"], atol=1e-3, rtol=1e-3)


def test_an_unknown_variant_is_named(pack):
    with pytest.raises(SystemExit, match="no variant 'papre'; it has paper"):
        pack.read_packing(RECIPES / "mini", "papre")


def test_small_ships_its_students_and_keeps_its_teachers_aside(pack):
    shipped, whole = (pack.read_packing(RECIPES / "small", variant) for variant in (None, "teacher"))
    assert {role for role in whole.networks if role not in shipped.networks} == {
        "sparse_structure_flow_model",
        "slat_flow_model",
    }
