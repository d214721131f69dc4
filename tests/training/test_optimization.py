"""Clipping by hand, master weights, and the scale of 16-bit gradients."""

import math

import pytest
import torch
from torch import nn

from mdtdist.training.clipping import Clipper, percentile
from mdtdist.training.optimization import LossScale, Optimization, widen
from mdtdist.training.trainer import Trainer
from tests.training.toy import ToyTask, clone, equal, toy_config


def with_norm(norm: float) -> nn.Parameter:
    """Two numbers whose gradient has a given norm."""
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([0.6, 0.8]) * norm
    return parameter


def test_a_plain_limit_scales_larger_gradients_alone():
    clipper = Clipper(2.0)
    for norm, expected in ((1.5, 1.5), (4.0, 2.0), (1e6, 2.0)):
        parameter = with_norm(norm)
        assert clipper.clip([parameter]) == pytest.approx(norm)
        assert parameter.grad.norm().item() == pytest.approx(expected, rel=1e-5)
    assert clipper.limit == 2.0 and not clipper.norms


def test_percentile_by_hand():
    assert percentile([4.0, 1.0, 2.0, 3.0], 50) == 2.5
    assert percentile([4.0, 1.0, 2.0, 3.0], 95) == pytest.approx(3.85)
    assert percentile([4.0, 1.0, 2.0, 3.0], 100) == 4.0


def test_the_limit_follows_the_percentile_of_the_last_norms():
    clipper = Clipper(1.0, percentile=75, window=3)
    limits = []
    for norm in (0.2, 5.0, 0.4, 0.6, math.inf, math.nan, 0.8):
        limits.append(clipper.limit)
        clipper.clip([with_norm(norm)])
    limits.append(clipper.limit)
    # The largest norm until three are there; then of (0.2, 5, 0.4), (5, 0.4, 0.6) and (0.4, 0.6, 0.8); never above 1.
    assert limits == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.7], rel=1e-6)
    assert list(clipper.norms) == pytest.approx([0.4, 0.6, 0.8])
    parameter = with_norm(7.0)
    clipper.clip([parameter])
    assert parameter.grad.norm().item() == pytest.approx(0.7, rel=1e-5)


def test_percentile_clipping_is_chosen_by_name(tmp_path):
    options = {"clip_mode": "percentile", "clip_percentile": 50.0, "clip_window": 4}
    plain = Trainer(ToyTask(), toy_config(clip=100.0), tmp_path / "plain")
    adaptive = Trainer(ToyTask(), toy_config(clip=100.0, **options), tmp_path / "adaptive")
    for trainer in (plain, adaptive):
        trainer.run()
    assert not plain.steps.trained["student"].clipper.norms
    assert len(adaptive.steps.trained["student"].clipper.norms) == 4
    assert not equal(clone(plain.task.module), clone(adaptive.task.module))


def test_the_scale_halves_on_overflow_and_doubles_with_patience():
    scale = LossScale(is_on=True, start=4.0, largest=8.0, patience=2)
    seen = []
    for good in (True, True, True, True, True, True):
        scale.grow() if good else scale.halve()
        seen.append(scale.scale)
    assert seen == [4, 8, 8, 8, 8, 8]
    falls = [scale.halve() for _ in range(5)]
    assert falls == [True, True, True, False, False] and scale.scale == 1
    scale.grow()
    scale.halve()
    scale.grow()
    assert scale.scale == 1  # the count starts again
    off = LossScale(is_on=False, patience=1)
    off.grow()
    assert off.scale == 1 and not off.halve()


def test_scaled_gradients_are_the_gradients():
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    norms = {}
    for precision in ("fp32", "fp16"):
        optimization = Optimization(network, toy_config(precision=precision, clip=1e9))
        optimization.zero_grad()
        for share in (0.25, 0.75):
            optimization.backward(network(torch.ones(3)).square().sum(), share=share)
        norms[precision] = optimization.clip(), network.weight.grad.clone()
    assert norms["fp16"][0] == norms["fp32"][0] and torch.equal(norms["fp16"][1], norms["fp32"][1])


def test_an_overflow_is_tried_again_at_half_the_scale_and_is_no_bad_step(tmp_path):
    """The gradient is infinite as long as the scale is above 2^13."""
    task = ToyTask()

    def overflow(grad):
        scale = trainer.steps.trained["student"].scale.scale
        return grad * math.inf if scale > 2**13 else grad

    task.module.layer.weight.register_hook(overflow)
    trainer = Trainer(task, toy_config(precision="fp16"), tmp_path)
    trainer.run()
    state = trainer.steps.states()["student"]
    assert state["scale"] == 2**13 and state["num_good"] == 12 and trainer.bad_steps == 0
    assert sorted(task.losses) == list(range(12))


def test_true_infinity_is_a_bad_step_in_16_bits_too(tmp_path):
    tries = []
    task = ToyTask({3: lambda loss: tries.append(1) or loss * math.nan})
    task.module.layer.bias.register_hook(lambda grad: grad * math.inf if len(task.losses) == 6 else grad)
    trainer = Trainer(task, toy_config(precision="fp16"), tmp_path)
    trainer.run()
    assert trainer.bad_steps == 2 and trainer.step == 12
    # No smaller scale mends a loss that is nan; a gradient is given up at a scale of 1.
    assert len(tries) == 1 and trainer.steps.states()["student"]["scale"] == 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_master_weights_moments_and_averages_stay_float32(precision, tmp_path):
    class Narrow(ToyTask):
        def __init__(self) -> None:
            super().__init__()
            self.module.half()
            self.companions = {"slow": nn.Linear(2, 2).bfloat16()}

        def loss(self, draw):
            dtypes.add(self.module.layer(self.data[:1]).dtype)
            return super().loss(draw)

    dtypes = set()
    trainer = Trainer(Narrow(), toy_config(precision=precision), tmp_path)
    trainer.run()
    assert dtypes == {{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    tensors = [*trainer.networks["student"].state_dict().values(), *trainer.networks["slow"].state_dict().values()]
    tensors += [*trainer.average.tensors.values(), *trainer.steps.moments()["student"].values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in trainer.task.module.parameters())


def test_widening_leaves_other_types_alone():
    module = nn.Module()
    module.a = nn.Parameter(torch.ones(2, dtype=torch.float16))
    module.b = nn.Parameter(torch.ones(2, dtype=torch.float64))
    module.register_buffer("c", torch.ones(2, dtype=torch.bfloat16))
    module.register_buffer("d", torch.arange(2))
    kept = module.a
    widen(module)
    assert module.a is kept  # what refers to a parameter goes on to
    dtypes = {key: value.dtype for key, value in module.state_dict().items()}
    assert dtypes == {"a": torch.float32, "b": torch.float64, "c": torch.float32, "d": torch.int64}


def test_frozen_parameters_are_left_to_themselves():
    network = nn.Linear(3, 2)
    network.bias.requires_grad_(False)
    optimization = Optimization(network, toy_config(weight_decay=0.5))
    assert [id(p) for p in optimization.parameters] == [id(network.weight)]
