"""``mdtdist info`` on a folder in the official layout."""

import json

import pytest

from mdtdist.cli.main import main
from tests.pipelines.official import NAMES, write_official
from tests.pipelines.tiny import random_network


@pytest.fixture
def folder(tmp_path):
    return write_official(tmp_path / "model")


def test_official_folder_is_described(folder, capsys):
    assert main(["info", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pipeline"] == "TrellisImageTo3DPipeline" and found["condition"] == "dinov2_vitl14_reg"
    assert found["flows"] == ["teacher"] and found["decoders"] == ["slat_decoder_gs"]
    assert set(found["networks"]) == set(NAMES)
    assert found["samplers"]["teacher"]["latent"]["params"] == {
        "steps": 25, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0,
    }  # fmt: skip
    network = random_network("sparse_structure_flow_model", 0)
    described = found["networks"]["sparse_structure_flow_model"]
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert described["parameters"] == num_parameters
    assert set(described["dtypes"]) == {"float16", "float32"}
    assert sum(described["dtypes"].values()) == num_parameters + network.pos_emb.numel()


def test_memory_is_that_of_the_weights_in_use(folder, capsys):
    assert main(["info", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sizes = [network["memory"] for network in found["networks"].values()]
    memory = found["memory"]["teacher"]
    for kind in ("float32", "half"):
        assert memory[kind] == {"all": sum(size[kind] for size in sizes), "largest": max(size[kind] for size in sizes)}
    for network in found["networks"].values():
        values = sum(network["dtypes"].values())
        assert network["memory"]["float32"] == 4 * values and 2 * values < network["memory"]["half"] < 4 * values


def test_the_text_names_everything(folder, capsys):
    assert main(["info", str(folder)]) == 0
    text = capsys.readouterr().out
    for words in (*NAMES, "ElasticSLatFlowModel", "float16", "steps 25, cfg_strength 5.0", "sigma_min 1e-05", "16 bit"):
        assert words in text
    assert "dinov2_vitl14_reg (from elsewhere, not counted here)" in text


@pytest.mark.parametrize("damage", ["cut", "missing", "shape"])
def test_the_first_real_cause_reaches_the_user(folder, capsys, damage):
    base = folder / NAMES["slat_flow_model"]
    weights, config = base.with_name(f"{base.name}.safetensors"), base.with_name(f"{base.name}.json")
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "missing":
        weights.unlink()
    else:
        config.write_text(config.read_text().replace('"out_channels": 8', '"out_channels": 9'))
    assert main(["info", str(folder)]) == 2
    error = capsys.readouterr().err
    assert weights.name in error
    words = {
        "cut": "cut short: the tensor '",
        "missing": "is missing",
        "shape": "the tensor 'out_layer.weight' has shape",
    }
    assert words[damage] in error
