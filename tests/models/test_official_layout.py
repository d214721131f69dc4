"""Networks built from official configs have exactly the keys and shapes of the published checkpoints."""

import json
from pathlib import Path

import pytest
import torch

from mdtdist.models import build

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("path", sorted(DATA.glob("*.json")), ids=lambda path: path.stem)
def test_state_dict_keys_and_shapes(path):
    record = json.loads(path.read_text())
    with torch.device("meta"):
        network = build(record["name"], **record["args"])
    actual = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert actual == {key: entry["shape"] for key, entry in record["state_dict"].items()}
    assert sum(p.numel() for p in network.parameters()) == record["num_parameters"]


def test_every_network_of_this_family_is_covered():
    names = {json.loads(path.read_text())["name"].removeprefix("Elastic") for path in DATA.glob("*.json")}
    assert names == {
        "SLatEncoder",
        "SLatFlowModel",
        "SLatGaussianDecoder",
        "SparseStructureDecoder",
        "SparseStructureEncoder",
        "SparseStructureFlowModel",
    }
