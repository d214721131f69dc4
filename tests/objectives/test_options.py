import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout
from mdtdist.objectives import DerivativeOptions, Metric, Normalization, TimeOptions
from tests.objectives.gaussian import latents

PACKED = PackedLayout((1, 4, 2))


def _times(num=4000, low=0.2, seed=0, like=torch.float32, **options):
    generator = torch.Generator().manual_seed(seed)
    return TimeOptions(**options).sample(torch.zeros(1, dtype=like), num, low=low, generator=generator)


# The mean of sigmoid(-1 + n) is 0.303, of sigmoid(1 + n) 0.697.
@pytest.mark.parametrize(("kind", "center", "mean"), [("uniform", 0.0, 0.5), ("logit_normal", -1.0, 0.303)])
def test_times_lie_between_their_lower_end_and_one(kind, center, mean):
    t = _times(kind=kind, mean=center)
    assert t.min() >= 0.2 and t.max() <= 1
    assert t.min() < 0.23 and t.max() > 0.9
    assert abs(float(t.mean()) - (0.2 + 0.8 * mean)) < 0.02


def test_mean_and_std_are_those_of_the_logit():
    logits = torch.logit(_times(num=50_000, low=0.0, kind="logit_normal", mean=0.4, std=0.6))
    assert abs(float(logits.mean()) - 0.4) < 0.01 and abs(float(logits.std()) - 0.6) < 0.01


def test_p_noise_puts_a_share_of_the_samples_at_pure_noise():
    assert abs(float((_times(p_noise=0.3) == 1).float().mean()) - 0.3) < 0.03
    assert (_times(p_noise=1.0) == 1).all() and (_times(p_noise=0.0) < 1).all()


def test_p_noise_leaves_the_other_times_alone():
    plain, some = _times(), _times(p_noise=0.3)
    assert torch.equal(some[some < 1], plain[some < 1])


@pytest.mark.parametrize(
    ("latent", "time"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_times_are_at_least_float32(latent, time):
    assert _times(like=latent).dtype == time


def test_times_follow_the_generator():
    assert torch.equal(_times(), _times()) and not torch.equal(_times(), _times(seed=1))


def test_passes_of_the_derivative():
    passes = {kind: DerivativeOptions(kind=kind).passes for kind in ("backward", "central", "jvp")}
    assert passes == {"backward": 1, "central": 2, "jvp": 2}


def test_residual_normalisation_makes_every_sample_weigh_alike():
    residual, _ = latents(PACKED, rows=7)
    scale = PACKED.expand(torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64), residual)
    residual = (scale * residual).requires_grad_()
    weight = Normalization(kind="residual", offset=0.5).weight(residual, PACKED)
    expected = [1 / (part.square().mean().sqrt() + 0.5) for part in residual.split(PACKED.lengths)]
    assert torch.allclose(weight, torch.stack(expected))
    assert not weight.requires_grad
    assert float(weight[2] * PACKED.rms(residual.detach())[2]) == pytest.approx(1, abs=1e-2)


def test_residual_normalisation_does_not_depend_on_the_size_of_a_sample():
    row = latents(DenseLayout(1), rows=1)[0]
    weight = Normalization(kind="residual").weight(row.expand(8, 3), PackedLayout((1, 7)))
    assert torch.allclose(weight[0], weight[1])


@pytest.mark.parametrize("kind", ["none", "derivative"])
def test_other_normalisations_leave_the_gradient_alone(kind):
    weight = Normalization(kind=kind).weight(latents(PACKED, rows=7)[0], PACKED)
    assert torch.equal(weight, torch.ones(3, dtype=torch.float64))


def _pair():
    """Two latents and the mean square of their difference."""
    a, b = (latents(PACKED, rows=7, seed=s)[0] for s in (0, 1))
    return a, b, torch.stack([part.square().mean() for part in (a - b).split(PACKED.lengths)])


def test_l2_is_the_mean_square_of_each_sample():
    a, b, square = _pair()
    assert torch.allclose(Metric().distance(a, b, PACKED), square)


def test_huber_is_a_smooth_rms():
    a, b, square = _pair()
    metric = Metric(kind="huber", c=0.5)
    assert torch.allclose(metric.distance(a, b, PACKED), (square + 0.25).sqrt() - 0.5)
    assert torch.equal(metric.distance(a, a, PACKED), torch.zeros(3, dtype=torch.float64))
    far = metric.distance(1e4 * a, 1e4 * b, PACKED)
    assert torch.allclose(far, 1e4 * square.sqrt(), rtol=1e-3)
    near = metric.distance(1e-4 * a, 1e-4 * b, PACKED)
    assert torch.allclose(near, 1e-8 * square / (2 * 0.5), rtol=1e-3)


@pytest.mark.parametrize("kind", ["l2", "huber"])
def test_metrics_are_differentiable_even_at_no_distance(kind):
    a = latents(PACKED, rows=7)[0].requires_grad_()
    b = latents(PACKED, rows=7, seed=1)[0]
    assert torch.autograd.gradcheck(lambda a: Metric(kind=kind, c=0.1).distance(a, b, PACKED), a)
    (grad,) = torch.autograd.grad(Metric(kind=kind).distance(a, a.detach(), PACKED).sum(), a)
    assert torch.equal(grad, torch.zeros_like(a))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (lambda: TimeOptions(kind="beta"), "kind of time is 'beta'"),
        (lambda: TimeOptions(std=0.0), "std is 0"),
        (lambda: TimeOptions(p_noise=1.5), "p_noise is 1.5"),
        (lambda: DerivativeOptions(kind="difference"), "kind of derivative is 'difference'"),
        (lambda: DerivativeOptions(delta_t=0.0), "delta_t is 0"),
        (lambda: DerivativeOptions(delta_t=1.0), "delta_t is 1"),
        (lambda: Normalization(kind="l2"), "kind of normalization is 'l2'"),
        (lambda: Normalization(offset=0.0), "offset is 0"),
        (lambda: Metric(kind="lpips"), "kind of metric is 'lpips'"),
        (lambda: Metric(c=0.0), "c is 0"),
    ],
)
def test_impossible_values_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        options()
