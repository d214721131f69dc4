"""Flow matching: the exact velocity has no loss, and the batches are what the networks are later run on."""

import pytest
import torch
from torch import nn

from mdtdist.flow import PackedLayout, UniformTime
from mdtdist.sparse import SparseTensor
from mdtdist.training.config import from_dict
from mdtdist.training.flow import FlowConfig, FlowTask
from tests.training.tiny import COND_CHANNELS, FLOWS, STAGES, stage_values
from tests.training.toy import draw


class ExactVelocity(nn.Module):
    """Knows the data of the batch: from ``x_t`` and ``t`` follow the noise and the velocity."""

    def __init__(self, *, sigma_min: float, time_scale: float, sign: float = 1.0) -> None:
        super().__init__()
        self.sigma_min, self.time_scale, self.sign = sigma_min, time_scale, sign
        self.batch, self.conds = None, []

    def forward(self, x, t, cond):
        self.conds.append(cond)
        x_t = x.feats if isinstance(x, SparseTensor) else x
        t = self.batch.layout.expand((t / self.time_scale).double(), x_t)
        x_0 = self.batch.x_0.double()
        noise = (x_t - (1 - t) * x_0) / (self.sigma_min + (1 - self.sigma_min) * t)
        v = (self.sign * ((1 - self.sigma_min) * noise - x_0)).float()
        return x.replace(v) if isinstance(x, SparseTensor) else v


def make_task(stage, prepared, networks, **changes) -> FlowTask:
    values = {"data": stage_values(stage, prepared.path, networks), "network": FLOWS[stage][1], **changes}
    return FlowTask(from_dict(FlowConfig, values), seed=0, device="cpu")


@pytest.fixture(params=STAGES)
def task(request, prepared, networks) -> FlowTask:
    return make_task(request.param, prepared, networks, eval_steps=2, p_uncond=0.25)


def with_exact_velocity(task: FlowTask, **options) -> ExactVelocity:
    """Replace the network, which then sees every training batch beforehand."""
    task.module = ExactVelocity(sigma_min=1e-5, time_scale=60.0, **options)
    train = task.batches.train

    def recorded(*args):
        task.module.batch = train(*args)
        return task.module.batch

    task.batches.train = recorded
    return task.module


def test_exact_velocity_has_no_loss(task):
    with_exact_velocity(task)
    assert task.loss(draw(0, 4))["loss"] < 1e-8


def test_reversed_velocity_has_four_times_its_mean_square(task):
    network = with_exact_velocity(task, sign=-1.0)
    loss = task.loss(draw(0, 4))["loss"]
    expected = 4 * (1 + network.batch.layout.mean(network.batch.x_0**2).mean())
    torch.testing.assert_close(loss, expected, rtol=0.2, atol=0)


def test_a_share_of_the_conditions_is_dropped_whole(task):
    network = with_exact_velocity(task)
    for step in range(100):
        task.loss(draw(step, 4, seed=step))
    conds = torch.cat(network.conds)
    dropped = (conds == 0).flatten(1).all(1)
    assert 0.25 - 0.07 < dropped.float().mean() < 0.25 + 0.07  # three standard deviations of 400 draws
    assert (conds[~dropped] != 0).float().mean() > 0.99


def test_evaluation_is_repeatable_and_keeps_every_condition(task, tmp_path):
    first = task.evaluate(tmp_path, 3)
    assert first == task.evaluate(tmp_path, 3)
    assert (tmp_path / "samples_0000003.png").is_file()
    assert set(first) == {"loss"} | (
        {"iou", "f1", "voxels"} if task.config.data.stage == "structure" else {"render_l1_1"}
    )
    assert all((batch.cond != 0).float().mean() > 0.99 for batch, _ in task.batches.validation())


def test_untrained_network_predicts_zero_and_pays_the_mean_square(task):
    """Output layers start at zero, so the first loss is known."""
    batch = task.batches.train(draw(0, 4))
    loss = task.loss(draw(0, 4))["loss"].item()
    assert loss == pytest.approx(1 + batch.layout.mean(batch.x_0**2).mean().item(), rel=0.2)


def test_dense_batches_mirror_the_object_with_its_picture(prepared, networks):
    batches = make_task("structure", prepared, networks).batches
    seen = []
    for step in range(8):
        batch = batches.train(draw(step, 4, seed=step))
        for item, x_0, cond in zip(batches.epochs.batch(step, 4), batch.x_0, batch.cond, strict=True):
            is_latent = [torch.equal(x_0, latent) for latent in batches.latents["train"][item]]
            views = batches.conditions["train"].tokens[item].float()  # view, mirrored
            is_cond = [[torch.equal(cond, views[view, flag]) for flag in (0, 1)] for view in range(len(views))]
            assert sum(is_latent) == 1 and sum(map(sum, is_cond)) == 1
            view = next(view for view, found in enumerate(is_cond) if any(found))
            assert is_cond[view] == is_latent
            seen.append((is_latent.index(True), view))
    assert set(seen) == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_sparse_batches_are_packed_and_normalised(prepared, networks):
    batches = make_task("latent", prepared, networks).batches
    batch = batches.train(draw(2, 3))
    objects = batches.epochs.batch(2, 3)
    ids = [prepared.ids("train")[item] for item in objects]
    assert batch.layout == PackedLayout(tuple(len(prepared.voxels(sha)) for sha in ids))
    start, flips = 0, []
    for number, (item, sha) in enumerate(zip(objects, ids, strict=True)):
        voxels = prepared.voxels(sha)
        rows = slice(start, start := start + len(voxels))
        flips.append(int(not torch.equal(batch.coords[rows, 1:], voxels)))
        expected = torch.cat([31 - voxels[:, :1], voxels[:, 1:]], dim=1) if flips[-1] else voxels
        assert torch.equal(batch.coords[rows, 1:], expected) and (batch.coords[rows, 0] == number).all()
        latent, tokens = batches.items["train"][item][0][flips[-1]], batches.conditions["train"].tokens[item]
        torch.testing.assert_close(batches.normalization.denormalize(batch.x_0[rows]), latent, atol=1e-5, rtol=1e-5)
        assert (batch.cond[number] == tokens[:, flips[-1]].float()).flatten(1).all(1).any()
    assert set(flips) == {0, 1}
    everything = [batches.normalization.normalize(feats[0]) for feats, _ in batches.items["train"]]
    means, squares = (torch.stack([(f**p).mean(0) for f in everything]).mean(0) for p in (1, 2))
    torch.testing.assert_close(means, torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(squares, torch.ones(4), atol=1e-3, rtol=0)


def test_batches_depend_on_step_and_generator_alone(task):
    drawn = [task.batches.train(draw(step, 2, seed=step)) for step in (0, 5, 0)]
    assert torch.equal(drawn[0].x_0, drawn[2].x_0) and torch.equal(drawn[0].cond, drawn[2].cond)
    assert drawn[0].cond.shape == (2, 49, COND_CHANNELS)
    assert not torch.equal(drawn[0].cond, drawn[1].cond)


def test_time_distribution_is_chosen_by_name(prepared, networks):
    assert make_task("structure", prepared, networks, time="uniform").config.time_distribution == UniformTime()
    with pytest.raises(ValueError, match="expected uniform or logit_normal"):
        make_task("structure", prepared, networks, time="cosine")
