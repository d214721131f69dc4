"""The mesh decoder task: its losses, its gradients, and that it learns."""

import dataclasses

import pytest
import torch

from mdtdist.cli.main import main
from mdtdist.data.depth_fusion import DepthViews
from mdtdist.errors import InputError
from mdtdist.models import load
from mdtdist.representations.flexicubes import ExtractedMesh, TrainingTerms
from mdtdist.training.mesh_decoder import MeshDecoderConfig, MeshDecoderTask, closed_in_cube
from tests.training.tiny import MESH_DECODER, write_toml
from tests.training.toy import draw

DECODER = MESH_DECODER[1]


@pytest.fixture
def config(prepared, networks) -> MeshDecoderConfig:
    encoder = networks / "latent" / "enc"
    return MeshDecoderConfig(data=prepared.path, encoder=encoder, decoder=DECODER, num_points=512)


def test_one_step_moves_every_channel_group_and_leaves_the_encoder(config):
    torch.manual_seed(0)
    task = MeshDecoderTask(config, seed=0, device="cpu")
    before = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    losses = task.loss(draw(0, 2))
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
        loss = task.loss(draw(0, 2))
        optimizer.zero_grad()
        loss["loss"].backward()
        optimizer.step()
        losses.append(float(loss["field"].detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_the_field_is_compared_with_the_distances_of_the_views_negative_inside(config, prepared):
    """The true field has no error; its negative, which swaps inside and outside, has four times its own square."""
    task = MeshDecoderTask(config, seed=0, device="cpu")
    sha, cell = prepared.ids("train")[0], 1 / 128
    positions = torch.rand(400, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    views = DepthViews.from_views(prepared.views(sha))
    truth = closed_in_cube(views.sample(positions, reach=3 * cell).distance, positions, cell=cell) / (3 * cell)
    assert (truth < 0).any() and (truth > 0).any()

    def field_loss(sdf: torch.Tensor) -> float:
        terms = TrainingTerms(regularizer=torch.zeros(()), grid_positions=positions, grid_sdf=sdf)
        mesh = ExtractedMesh(
            vertices=positions, faces=torch.zeros(0, 3, dtype=torch.long), attributes=torch.rand(400, 6), training=terms
        )
        return float(task._compare(sha, mesh, torch.Generator().manual_seed(0))["field"])

    assert field_loss(truth) == 0
    drawn = torch.randint(400, (400,), generator=torch.Generator().manual_seed(0))
    assert field_loss(-truth) == pytest.approx(float((4 * truth[drawn] ** 2).mean()), rel=1e-4)


def test_a_decoder_without_colours_is_refused(config):
    decoder = DECODER | {"representation_config": {"use_color": False}}
    with pytest.raises(InputError, match="use_color"):
        MeshDecoderTask(dataclasses.replace(config, decoder=decoder), seed=0, device="cpu")


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


def test_a_step_in_half_precision_is_finite(config):
    torch.manual_seed(0)
    task = MeshDecoderTask(config, seed=0, device="cpu")
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss(draw(0, 2))["loss"]
    loss.backward()
    assert loss.isfinite()
