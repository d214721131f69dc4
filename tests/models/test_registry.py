import json

import pytest
import torch
from torch import nn

from mdtdist.errors import InputError
from mdtdist.models import NETWORKS, build, load, save
from mdtdist.models.registry import NetworkFiles
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
    with pytest.raises(InputError, match=r"net.safetensors is cut short: the tensor '\S+' ends at byte"):
        load(path)


def test_configs_that_build_nothing_name_their_file(tmp_path):
    path = tmp_path / "net"
    save(tiny("SLatEncoder").float(), path)
    config = json.loads((tmp_path / "net.json").read_text())
    for change, words in (
        ({"name": "NoSuchModel"}, "net.json does not describe a network: unknown network 'NoSuchModel'"),
        ({"args": {**config["args"], "no_such": 1}}, "net.json does not describe .*'no_such'"),
        ({"args": {**config["args"], "model_channels": None}}, "net.json does not describe a network"),
        ({"args": {**config["args"], "pe_mode": "rope"}}, "net.json .* 'rope'"),
        ({"args": 3}, "net.json is not a network config"),
    ):
        (tmp_path / "net.json").write_text(json.dumps(config | change))
        with pytest.raises(InputError, match=words):
            load(path)


def test_weights_and_config_may_have_different_names(tmp_path):
    network = tiny("SLatEncoder").float()
    save(network, tmp_path / "teacher")
    (tmp_path / "teacher.safetensors").rename(tmp_path / "student.safetensors")
    again = load(NetworkFiles(tmp_path / "teacher.json", tmp_path / "student.safetensors"))
    assert torch.equal(again.out_layer.weight, network.out_layer.weight)


def test_loading_leaves_the_random_numbers_alone_and_nothing_on_the_meta_device(tmp_path):
    save(tiny("SLatGaussianDecoder").float(), tmp_path / "net")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    again = load(tmp_path / "net")
    assert torch.equal(torch.rand(2), expected)
    assert all(value.device.type == "cpu" for value in again.state_dict().values())
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_constants_outside_the_checkpoint_come_from_the_constructor(tmp_path, monkeypatch):
    class WithConstant(nn.Module):
        def __init__(self, *, size: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(size))
            self.register_buffer("table", torch.arange(size), persistent=False)

    monkeypatch.setitem(NETWORKS, "WithConstant", WithConstant)
    network = build("WithConstant", size=3)
    network.weight.data.fill_(2.0)
    save(network, tmp_path / "net")
    again = load(tmp_path / "net")
    assert again.table.tolist() == [0, 1, 2] and again.weight.tolist() == [2.0, 2.0, 2.0]
