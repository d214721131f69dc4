"""Networks built from the official configs have exactly the tensors of the published checkpoints.

``data/official_layouts.json`` holds, per config, the type and shape of every tensor. One line stands for all equal
tensors of a stack: ``blocks.0-23.norm2.bias`` is ``blocks.0.norm2.bias`` to ``blocks.23.norm2.bias``.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mdtdist.models import NETWORKS
from mdtdist.models.registry import NetworkFiles

LAYOUTS = json.loads((Path(__file__).parent / "data" / "official_layouts.json").read_text())


def _written(config: str, folder: Path) -> Path:
    """The config as a file of a checkpoint without weights; its path without suffix."""
    path = folder / config.replace(".", "_")
    path.with_suffix(".json").write_text(json.dumps({key: LAYOUTS[config][key] for key in ("name", "args")}))
    return path


def _expanded(tensors: dict[str, str]) -> dict[str, str]:
    """One entry per tensor."""
    entries = {}
    for pattern, tensor in tensors.items():
        span = re.search(r"\.(\d+)-(\d+)\.", pattern)
        numbers = range(int(span[1]), int(span[2]) + 1) if span else [None]
        for number in numbers:
            key = pattern if span is None else pattern.replace(span[0], f".{number}.")
            assert key not in entries, f"{key} is listed twice"
            entries[key] = tensor
    return entries


def _layout(network: nn.Module) -> dict[str, str]:
    """Type, shape and, for buffers, kind of every tensor of the state dict."""
    buffers = dict(network.named_buffers())
    return {
        key: f"{value.dtype}{list(value.shape)}".removeprefix("torch.").replace(" ", "") + " buffer" * (key in buffers)
        for key, value in network.state_dict().items()
    }


def _differences(actual: dict[str, str], expected: dict[str, str]) -> list[str]:
    keys = sorted(actual.keys() | expected.keys())
    pairs = [(key, actual.get(key, "nothing"), expected.get(key, "nothing")) for key in keys]
    return [f"{key}: is {ours}, should be {theirs}" for key, ours, theirs in pairs if ours != theirs]


@pytest.mark.parametrize("config", sorted(LAYOUTS))
def test_keys_shapes_and_types_of_the_state_dict(tmp_path, config):
    record = LAYOUTS[config]
    network = NetworkFiles.at(_written(config, tmp_path)).skeleton()
    assert _differences(_layout(network), _expanded(record["tensors"])) == []
    parameters = list(network.parameters())
    assert len(network.state_dict()) == record["num_keys"]
    assert sum(p.numel() for p in parameters) == record["num_parameters"]
    assert sum(p.numel() for p in parameters if p.dtype == torch.float16) == record["num_fp16"]


def test_every_network_is_covered():
    assert len(LAYOUTS) == 14
    assert {record["name"].removeprefix("Elastic") for record in LAYOUTS.values()} == set(NETWORKS)


def test_a_wrong_layout_is_named(tmp_path):
    config = "slat_vae_enc_dec_gs_swin8_B_64l8_fp16.encoder"
    network = NetworkFiles.at(_written(config, tmp_path)).skeleton()
    network.input_layer.half()
    del network.blocks[11]
    expected = _expanded(LAYOUTS[config]["tensors"])
    differences = _differences(_layout(network), expected)
    assert "input_layer.bias: is float16[768], should be float32[768]" in differences
    assert "blocks.11.attn.to_out.bias: is nothing, should be float16[768]" in differences
    assert len(differences) == 2 + 8


@pytest.mark.slow  # imports torch in a process of its own
def test_building_without_memory_does_not_import_the_compiler(tmp_path):
    # It would cost every command that loads a checkpoint some seconds.
    configs = [_written(config, tmp_path) for config in LAYOUTS]
    code = (
        "import sys; from mdtdist.models.registry import NetworkFiles\n"
        "for path in sys.argv[1:]: NetworkFiles.at(path).skeleton()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, *map(str, configs)]).returncode == 0
