"""The mesh decoder task: its losses, its gradients, and that it learns."""

import dataclasses

import pytest
import torch

from mdtdist.cli.main import main
from mdtdist.errors import InputError
from mdtdist.models import load
from mdtdist.training.mesh_decoder import MeshDecoderConfig, MeshDecoderTask, closed_in_cube
from tests.training.tiny import MESH_DECODER, write_toml

DECODER = MESH_DECODER[1]


@pytest.fixture
def config(prepared, networks) -> MeshDecoderConfig:
    encoder = networks / "latent" / "enc"
    return MeshDecoderConfig(data=prepared.path, encoder=encoder, decoder=DECODER, num_points=512)


def test_one_step_moves_every_channel_group_and_leaves_the_encoder(config):
    torch.manual_seed(0)
    task = MeshDecoderTask(config, seed=0, device="cpu")
    before = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    losses = task.loss(0, 2, torch.Generator().manual_seed(0))
    losses["loss"].backward()
    gradient = task.module.out_layer.weight.grad
    assert gradient.isfinite().all()
    for channels in (slice(0, 8), slice(8, 32), slice(53, 101)):  # signed values, displacement, colour and normal
        assert gradient[channels].abs().max() > 0
    assert all(not p.requires_grad for p in task.encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in task.encoder.state_dict().items())
    config = task.config
    total = losses["field"] + config.surface_weight * losses["surface"] + config.color_weight * losses["color"]
    total = total + config.normal_weight * losses["normal"] + config.regularizer_weight * losses["regularizer"]
    torch.testing.assert_close(losses["loss"], total)


def test_the_field_loss_falls(config):
    torch.manual_seed(0)
    task = MeshDecoderTask(config, seed=0, device="cpu")
    optimizer = torch.optim.Adam(task.module.parameters(), lr=2e-3)
    losses = []
    for _ in range(5):
        loss = task.loss(0, 2, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss["loss"].backward()
        optimizer.step()
        losses.append(float(loss["field"].detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_a_surface_on_the_border_of_the_cube_is_pulled_inside():
    cell = 1 / 128
    points = torch.tensor([[0.5, 0.0, 0.0], [-0.5, 0.1, 0.2], [0.5 - cell, 0.0, 0.0], [0.1, 0.1, 0.1]])
    closed = closed_in_cube(torch.tensor([-0.001, -0.02, -0.02, -0.02]), points, cell=cell)
    torch.testing.assert_close(closed, torch.tensor([cell / 2, cell / 2, -cell / 2, -0.02]))


def test_max_voxels_must_leave_something(config):
    with pytest.raises(InputError, match="max_voxels is 3"):
        MeshDecoderTask(dataclasses.replace(config, max_voxels=3), seed=0, device="cpu")


def test_the_command_trains_and_exports(config, tmp_path, capsys):
    values = {
        "task": "mesh_decoder",
        "out": str(tmp_path / "run"),
        "trainer": {"num_samples": 4, "batch_size": 2, "lr": 1e-3, "log_every": 1},
        "mesh_decoder": {
            "data": str(config.data),
            "encoder": str(config.encoder),
            "num_points": 256,
            "decoder": DECODER,
        },
    }
    assert main(["train", str(write_toml(tmp_path / "config.toml", values))]) == 0
    assert "field_rmse_cells" in capsys.readouterr().out
    assert type(load(tmp_path / "run" / "slat_dec_mesh")).__name__ == "SLatMeshDecoder"
    assert (tmp_path / "run" / "samples_0000002.png").is_file()
