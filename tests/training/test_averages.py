"""Averages of weights against their formulas."""

import pytest
import torch
from torch import nn

from mdtdist.training.averages import MovingAverage, average_decay
from mdtdist.training.trainer import Trainer
from tests.training.toy import ToyTask, toy_config


class Line(nn.Module):
    """One weight, in float64, and a buffer that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))


def averaged(weights: list[float], **options) -> float:
    """The average after training has gone through ``weights``, from 7 on."""
    module = Line()
    with torch.no_grad():
        module.weight.fill_(7)
    average = MovingAverage(module, 0.5, **options)
    for step, weight in enumerate(weights):
        with torch.no_grad():
            module.weight.fill_(weight)
            module.count += 1
        average.update(module, step)
    assert average.tensors["count"] == len(weights)
    return average.tensors["weight"].item()


def test_constant_average_follows_its_formula_and_forgets_the_start():
    weights, expected = [step**1.5 for step in range(12)], 7.0
    for step, weight in enumerate(weights):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    assert averaged(weights) == pytest.approx(expected, rel=1e-12)
    assert average_decay(0, decay=0.5, mode="constant", gamma=1) == 0.1


@pytest.mark.parametrize("gamma", [0.5, 1.0, 6.94, 16.97])
def test_power_average_weighs_by_a_power_of_the_step(gamma):
    """In closed form step i of n has the integral of t^gamma over [i - 1, i], over that over [0, n]; no start."""
    n = 40
    weights = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    i = torch.arange(1, n + 1, dtype=torch.float64)
    shares = (i ** (gamma + 1) - (i - 1) ** (gamma + 1)) / n ** (gamma + 1)
    assert shares.sum().item() == pytest.approx(1)
    expected = (shares * weights).sum().item()
    assert averaged(weights.tolist(), mode="power", gamma=gamma) == pytest.approx(expected, rel=1e-12)


def test_relative_width_of_the_documented_exponents():
    """EDM2 names its averages by the standard deviation of the weights over the run, as a share of it."""
    for gamma, width in ((6.94, 0.1), (16.97, 0.05)):
        variance = (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))
        assert variance**0.5 == pytest.approx(width, rel=2e-3)


def test_the_average_is_chosen_by_name(tmp_path):
    trainer = Trainer(ToyTask(), toy_config(ema_mode="power", ema_gamma=2.0), tmp_path)
    assert (trainer.average.mode, trainer.average.gamma) == ("power", 2.0)
    trainer.run()
    assert trainer.average.tensors["layer.weight"].isfinite().all()
