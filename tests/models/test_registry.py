import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.models import build, load, save
from tests.models.tiny import CONFIGS, tiny


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_saved_then_loaded_is_bitwise_equal(tmp_path, name):
    network = tiny(name).float()
    save(network, tmp_path / "sub" / "net")
    again = load(tmp_path / "sub" / "net")
    assert type(again) is type(network) and not again.training
    assert again.config == {"name": name, "args": CONFIGS[name]}
    for key, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == ["net.json", "net.safetensors"]


def test_half_precision_storage_is_widened(tmp_path):
    network = tiny("SparseStructureDecoder").float()
    save(network, tmp_path / "net", dtype=torch.float16)
    again = load(tmp_path / "net")
    weight = network.input_layer.weight
    assert again.input_layer.weight.dtype == torch.float32
    assert torch.equal(again.input_layer.weight, weight.half().float())


def test_the_elastic_prefix_names_the_same_network():
    assert type(build("ElasticSLatFlowModel", **CONFIGS["SLatFlowModel"])) is type(tiny("SLatFlowModel"))


def test_unknown_name_and_argument_are_refused():
    with pytest.raises(InputError, match="'NoSuchModel'; expected one of SLatEncoder"):
        build("NoSuchModel")
    with pytest.raises(InputError, match="no_such"):
        build("SLatEncoder", **CONFIGS["SLatEncoder"], no_such=1)


def test_damaged_checkpoints_name_the_file_and_the_tensor(tmp_path):
    with pytest.raises(InputError, match="absent.json is missing"):
        load(tmp_path / "absent")
    path = tmp_path / "net"
    save(tiny("SparseStructureDecoder").float(), path)
    config = (tmp_path / "net.json").read_text()
    (tmp_path / "net.json").write_text(config.replace('"out_channels": 1', '"out_channels": 2'))
    with pytest.raises(InputError, match="out_layer.2.weight"):
        load(path)
    (tmp_path / "net.json").write_text("{")
    with pytest.raises(InputError, match="net.json is not a network config"):
        load(path)
    (tmp_path / "net.json").write_text(config)
    weights = (tmp_path / "net.safetensors").read_bytes()
    (tmp_path / "net.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load(path)
