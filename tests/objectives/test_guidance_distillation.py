import pytest
import torch

from mdtdist.flow import DenseLayout, Guidance, PackedLayout, guided_field
from mdtdist.objectives import (
    OBJECTIVES,
    Fields,
    GuidanceConfig,
    Latents,
    Metric,
    TimeOptions,
    guidance_loss,
    guided_velocity_distance,
)
from tests.objectives.gaussian import Gaussian, Network, latents

LAYOUT = DenseLayout(6)
COND, NEGATIVE = Gaussian(layout=LAYOUT), Gaussian(mean=-0.4, std=0.8, layout=LAYOUT)
LOW, HIGH = 0.5, 0.9
TEACHER = guided_field(COND.velocity, NEGATIVE.velocity, Guidance(w=99.0, interval=(LOW, HIGH)), expand=LAYOUT.expand)


def _difference(x, t):
    """What one unit of guidance adds to the conditional velocity."""
    return COND.velocity(x, t) - NEGATIVE.velocity(x, t)


def _ideal(x, t, *, w):
    is_guided = ((t >= LOW) & (t <= HIGH)).to(x.dtype)
    return COND.velocity(x, t) + (w * is_guided)[:, None] * _difference(x, t)


def _states():
    x, _ = latents(LAYOUT, rows=6)
    t = torch.tensor([0.3, 0.5, 0.6, 0.8, 0.95, 1.0], dtype=torch.float64)
    w = torch.tensor([1.0, 0.0, 2.0, 3.0, 1.5, 4.0], dtype=torch.float64)
    return x, t, w


def _loss(student, *, teacher=TEACHER, seed=0, layout=LAYOUT, **options):
    x_0, _ = latents(layout, rows=6)
    fields = Fields(student=student, teacher=teacher)
    generator = torch.Generator().manual_seed(seed)
    config = GuidanceConfig(**options)
    return guidance_loss(fields, Latents(x_0=x_0, layout=layout), config=config, generator=generator)


def test_ideal_student_has_no_loss():
    x, t, w = _states()
    distance = guided_velocity_distance(_ideal, TEACHER, x, t, w=w, layout=LAYOUT)
    assert distance.max() < 1e-28


def test_conditional_velocity_errs_by_the_guidance_inside_the_interval_alone():
    x, t, w = _states()
    distance = guided_velocity_distance(lambda x, t, *, w: COND.velocity(x, t), TEACHER, x, t, w=w, layout=LAYOUT)
    expected = (w**2) * (_difference(x, t) ** 2).mean(1)
    is_guided = torch.tensor([False, True, True, True, False, False])
    assert torch.allclose(distance[is_guided], expected[is_guided], atol=1e-12)
    assert distance[~is_guided].max() < 1e-28
    assert expected[0] > 0.1


def test_there_is_no_gradient_at_the_ideal_student_and_one_back_to_it_beside():
    def student(x, t, *, w):
        return _ideal(x, t, w=w) + scale[0] + scale[1] * w[:, None] + scale[2] * x

    scale = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(_loss(student).loss.sum(), scale)
    assert grad.abs().max() < 1e-12
    scale = torch.tensor([0.0, 0.2, 0.0], dtype=torch.float64, requires_grad=True)
    out = _loss(student)
    assert torch.allclose(out.loss, (0.2 * out.w) ** 2, atol=1e-12)
    (grad,) = torch.autograd.grad(out.loss.sum(), scale)
    assert torch.allclose(grad[1], (2 * 0.2 * out.w**2).sum(), atol=1e-12)


def test_gradient_flows_through_the_student_alone():
    network, teacher = Network(LAYOUT, seed=1), Network(LAYOUT, seed=2)
    x, t, w = _states()

    def of(network):
        return lambda x, t, *, w: network(x, t) * w[:, None]

    guided_velocity_distance(of(network), of(teacher), x, t, w=w, layout=LAYOUT).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


def test_weights_are_uniform_and_both_networks_are_told_the_same():
    layout = DenseLayout(5000)
    told = {}

    def record(name):
        def field(x, t, *, w):
            told[name] = (x, t, w)
            return torch.zeros_like(x)

        return field

    batch = Latents(x_0=torch.zeros(5000, 3, dtype=torch.float64), layout=layout)
    config = GuidanceConfig(w_min=1.0, w_max=5.0)
    fields = Fields(student=record("student"), teacher=record("teacher"))
    out = guidance_loss(fields, batch, config=config, generator=torch.Generator().manual_seed(0))
    assert out.w.min() >= 1 and out.w.max() <= 5 and out.w.min() < 1.01 and out.w.max() > 4.99
    assert abs(float(out.w.mean()) - 3) < 0.05
    for student, teacher, logged in zip(told["student"], told["teacher"], (None, out.t, out.w), strict=True):
        assert torch.equal(student, teacher) and (logged is None or torch.equal(student, logged))


def test_states_are_noised_by_their_time():
    seen = []

    def student(x, t, *, w):
        seen.append(x)
        return torch.zeros_like(x)

    far = Latents(x_0=torch.full((6, 3), 1e6, dtype=torch.float64), layout=LAYOUT)
    config = GuidanceConfig(time=TimeOptions(p_noise=1.0))
    fields = Fields(student=student, teacher=TEACHER)
    guidance_loss(fields, far, config=config, generator=torch.Generator().manual_seed(0))
    assert seen[0].abs().max() < 10


def test_metric_is_an_option():
    x, t, w = _states()

    def student(x, t, *, w):
        return TEACHER(x, t, w=w) + 0.3

    huber = Metric(kind="huber", c=0.4)
    distance = guided_velocity_distance(student, TEACHER, x, t, w=w, layout=LAYOUT, metric=huber)
    assert torch.allclose(distance, torch.full((6,), 0.1, dtype=torch.float64))


def test_packed_equals_dense_for_samples_of_one_length():
    losses = []
    for layout in (LAYOUT, PackedLayout((1,) * 6)):
        network = Network(layout)

        def student(x, t, *, w, network=network, layout=layout):
            return network(x, t) * layout.expand(w, x)

        cond, negative = (Gaussian(mean=mean, layout=layout).velocity for mean in (0.7, -0.4))
        teacher = guided_field(cond, negative, Guidance(interval=(LOW, HIGH)), expand=layout.expand)
        losses.append(_loss(student, teacher=teacher, layout=layout).loss)
    assert torch.allclose(*losses, atol=1e-12)


def test_same_generator_gives_the_same_loss_and_another_does_not():
    def student(x, t, *, w):
        return torch.zeros_like(x)

    assert torch.equal(_loss(student).loss, _loss(student).loss)
    assert not torch.equal(_loss(student).loss, _loss(student, seed=1).loss)


def test_needs_and_cost():
    assert OBJECTIVES["guidance"].variant("paper") == GuidanceConfig()
    assert GuidanceConfig().needs == {"guidance"}
    assert GuidanceConfig().cost.forwards() == 5  # table 12
    assert (GuidanceConfig().w_min, GuidanceConfig().w_max) == (0.0, 4.0)


@pytest.mark.parametrize("options", [{"w_min": -1.0}, {"w_min": 5.0}, {"w_max": -1.0}])
def test_config_refuses_impossible_values(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        GuidanceConfig(**options)
