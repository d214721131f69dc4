"""Score distillation: known residual for a Gaussian teacher, and what it is known for, going to the mode."""

import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout
from mdtdist.objectives import Fields, Latents, SDSConfig, score_distillation_loss, sds_loss
from mdtdist.objectives.samples import RenoiseOptions
from tests.objectives.gaussian import Gaussian, Network, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)


def _draws():
    x, t = latents(LAYOUT, rows=6)
    return x, latents(LAYOUT, rows=6, seed=1)[0], t


def _gradient(x, noise, t, weighting="constant"):
    x = x.clone().requires_grad_()
    loss = score_distillation_loss(x, TEACHER.velocity, noise, t, layout=LAYOUT, weighting=weighting)
    return torch.autograd.grad(loss.sum(), x)[0] * x.shape[1]


def test_gradient_averages_to_the_pull_toward_the_mode():
    # Noise of either sign: what remains of eps(x_t, t) - noise is t (1 - t) (x - mean) / s_t^2.
    x, noise, t = _draws()
    time = t[:, None]
    variance = (1 - time) ** 2 * TEACHER.std**2 + time**2
    mean = (_gradient(x, noise, t) + _gradient(x, -noise, t)) / 2
    assert torch.allclose(mean, time * (1 - time) * (x - TEACHER.mean) / variance, atol=1e-12)


def test_samples_at_the_mode_stay_there():
    x, noise, t = _draws()
    x = torch.full_like(x, TEACHER.mean)
    assert (_gradient(x, noise, t) + _gradient(x, -noise, t)).abs().max() < 1e-12


@pytest.mark.parametrize("weighting", ["variance", "constant"])
def test_value_and_gradient_are_known(weighting):
    x, noise, t = _draws()
    time = t[:, None]
    x_t = (1 - time) * x + time * noise
    variance = (1 - time) ** 2 * TEACHER.std**2 + time**2
    residual = time * (x_t - (1 - time) * TEACHER.mean) / variance - noise
    weight = t**2 if weighting == "variance" else torch.ones_like(t)
    loss = score_distillation_loss(x, TEACHER.velocity, noise, t, layout=LAYOUT, weighting=weighting)
    assert torch.allclose(loss, weight * (residual**2).mean(1) / 2)
    assert torch.allclose(_gradient(x, noise, t, weighting), weight[:, None] * residual)


def test_gradient_flows_through_the_sample_alone():
    x_0, _ = latents(LAYOUT, rows=6)
    student, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    fields, config = Fields(student=student, teacher=teacher), SDSConfig(guidance=None)
    generator = torch.Generator().manual_seed(0)
    sds_loss(fields, Latents(x_0=x_0, layout=LAYOUT), config=config, generator=generator).loss.sum().backward()
    assert all(p.grad is None for p in teacher.parameters())

    generator = torch.Generator().manual_seed(0)
    z = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    x = z - student(z, torch.ones(6, dtype=torch.float64))
    t, noise = config.renoise.draw(x_0, layout=LAYOUT, generator=generator)
    time = t[:, None]
    x_t = ((1 - time) * x + time * noise).detach()
    residual = (time**2 * (x_t + (1 - time) * teacher(x_t, t) - noise)).detach()
    expected = torch.autograd.grad((residual * x).mean(1).sum(), list(student.parameters()))
    for parameter, grad in zip(student.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, grad, atol=1e-12)


def test_teacher_is_asked_under_the_guidance_of_the_paper():
    asked = []

    def teacher(x, t, *, w=None):
        asked.append(w)
        return x

    x_0, _ = latents(LAYOUT, rows=6)
    fields = Fields(student=Network(LAYOUT), teacher=teacher)
    sds_loss(fields, Latents(x_0=x_0, layout=LAYOUT), config=SDSConfig(), generator=torch.Generator())
    assert asked == [100.0]


def test_packed_batch_equals_its_samples_one_by_one():
    lengths = (2, 5, 1, 4)
    layout = PackedLayout(lengths)
    x, t = latents(layout, rows=12)
    noise, _ = latents(layout, rows=12, seed=1)
    together = score_distillation_loss(x, Network(layout), noise, t, layout=layout)
    for i, (rows, noises) in enumerate(zip(x.split(lengths), noise.split(lengths), strict=True)):
        one = PackedLayout((lengths[i],))
        alone = score_distillation_loss(rows, Network(one), noises, t[i : i + 1], layout=one)
        assert torch.allclose(together[i : i + 1], alone, atol=1e-12)


def test_config_refuses_impossible_values():
    with pytest.raises(ValueError, match="weighting"):
        SDSConfig(weighting="sigma")
    with pytest.raises(ValueError, match="low and high are 0.9 and 0.1"):
        RenoiseOptions(low=0.9, high=0.1)
