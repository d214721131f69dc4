"""The structure VAE: losses in closed form, symmetries, and latents of unit scale."""

import itertools
import math

import pytest
import torch

from mdtdist.models import load
from mdtdist.training.structure_vae import (
    StructureVAEConfig,
    StructureVAETask,
    dice_loss,
    occupancy_iou,
    random_symmetry,
    unit_latents,
)
from tests.training.tiny import DECODERS, ENCODERS, randomized
from tests.training.toy import draw


@pytest.fixture
def task(prepared) -> StructureVAETask:
    config = StructureVAEConfig(data=prepared.path, encoder=ENCODERS["structure"][1], decoder=DECODERS["structure"][1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return StructureVAETask(config, seed=0, device="cpu")


def test_dice_of_known_probabilities():
    target = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    logits = torch.tensor([[0.75, 0.5, 0.25, 0.5]]).logit()
    torch.testing.assert_close(dice_loss(logits, target), torch.tensor([1 - (2 * 1.25 + 1) / (2 + 2 + 1)]))


def test_dice_of_perfect_opposite_and_empty_predictions():
    target = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    sign = torch.tensor([[1.0], [-1.0], [1.0]])
    logits = 100 * sign * (2 * target - 1)
    torch.testing.assert_close(dice_loss(logits, target), torch.tensor([0.0, 1 - 1 / 4, 0.0]))


def test_iou_counts_voxels_per_sample():
    a = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    b = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    torch.testing.assert_close(occupancy_iou(a, b), torch.tensor([1 / 3, 1.0, 1.0]))


def test_symmetries_are_the_eight_that_keep_z_up():
    grid = torch.rand(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    seen = {}
    for _ in range(100):
        moved = random_symmetry(grid, generator)
        seen[tuple(moved.flatten().tolist())] = moved
    axes = [(2, 3), (3, 2)]
    flips = [(), (2,), (3,), (2, 3)]
    expected = {
        tuple(grid.permute(0, 1, *order, 4).flip(flip).flatten().tolist())
        for order, flip in itertools.product(axes, flips)
    }
    assert seen.keys() == expected
    for moved in seen.values():
        torch.testing.assert_close(moved.sum((2, 3)), grid.sum((2, 3)))


def test_loss_is_the_weighted_sum_of_its_parts(task):
    losses = task.loss(draw(0, 3))
    expected = losses["dice"] + 1.0 * losses["bce"] + 1e-3 * losses["kl"]
    torch.testing.assert_close(losses["loss"], expected)
    assert losses["kl"] > 0.5 * (math.exp(-4) + 3) * 0.5  # the posterior starts narrow


def test_training_steps_lower_the_loss_of_a_batch(task):
    optimizer = torch.optim.Adam(task.module.parameters(), lr=0.01)
    values = []
    for _ in range(12):
        loss = task.loss(draw(0, 3))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.8 * values[0]


def test_unit_latents_rescale_the_latent_and_nothing_else():
    encoder = randomized(*ENCODERS["structure"], seed=1)
    decoder = randomized(*DECODERS["structure"], seed=2)
    grids = (torch.rand(5, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    with torch.no_grad():
        mean, logvar = encoder(grids)
        before, std = decoder(mean), mean.std(dim=(0, 2, 3, 4))
        unit_latents(encoder, decoder, std)
        new_mean, new_logvar = encoder(grids)
        after = decoder(new_mean)
    assert (std - 1).abs().min() > 0.01 and before.std() > 1e-3
    torch.testing.assert_close(new_mean.std(dim=(0, 2, 3, 4)), torch.ones(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    deviation = std[:, None, None, None]
    torch.testing.assert_close(new_mean * deviation, mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close((0.5 * new_logvar).exp() * deviation, (0.5 * logvar).exp(), atol=1e-5, rtol=1e-5)


def test_a_channel_that_never_varies_is_left_alone():
    encoder, decoder = randomized(*ENCODERS["structure"]), randomized(*DECODERS["structure"])
    before = encoder.out_layer[-1].weight.detach().clone()
    unit_latents(encoder, decoder, torch.tensor([0.0, 2.0, 1.0, 0.5]))
    assert all(value.isfinite().all() for net in (encoder, decoder) for value in net.state_dict().values())
    torch.testing.assert_close(encoder.out_layer[-1].weight[0], before[0])
    torch.testing.assert_close(encoder.out_layer[-1].weight[1], before[1] / 2)


def test_exported_networks_have_unit_latents_and_the_same_reconstruction(task, prepared, tmp_path):
    grids = task.train[:, None].float()
    with torch.no_grad():
        before = task.module["decoder"](task.module["encoder"](grids)[0])
        task.export(tmp_path)
        encoder, decoder = load(tmp_path / "ss_enc"), load(tmp_path / "ss_dec")
        mean, _ = encoder(grids)
        torch.testing.assert_close(decoder(mean), before, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mean.std(dim=(0, 2, 3, 4)), torch.ones(4), atol=1e-4, rtol=0)


def test_evaluation_measures_the_reconstruction(task, tmp_path):
    with torch.no_grad():
        figures = task.evaluate(tmp_path, 0)
        logits = task.module["decoder"](task.module["encoder"](task.val[:, None].float())[0])[:, 0]
    values = occupancy_iou(logits > 0, task.val)
    assert figures == pytest.approx({"iou": values.mean().item(), "iou_min": values.min().item()})
