import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout
from mdtdist.objectives import OBJECTIVES, Fields, Latents, ShortcutConfig, shortcut_loss, two_half_jumps
from mdtdist.objectives.shortcut import draw_jumps
from tests.objectives.gaussian import Gaussian, Network, latents

LAYOUT = DenseLayout(6)
TEACHER = Gaussian(layout=LAYOUT)


def _jumps(layout=LAYOUT, rows=6):
    x, t = latents(layout, rows=rows)
    return x, t, torch.linspace(0, 1, layout.num_samples, dtype=torch.float64) * t


def _two_times(network):
    """A student of two times from a network of one."""

    def student(x, t, *, r):
        return network(x, t) + network.layout.expand(t - r, x) * network(x, r)

    return student


def _loss(student, *, slow=None, teacher=TEACHER.velocity, num=6, seed=0, **options):
    layout = DenseLayout(num)
    x_0, _ = latents(layout, rows=num)
    return shortcut_loss(
        Fields(student=student, teacher=teacher, target=slow),
        Latents(x_0=x_0, layout=layout),
        config=ShortcutConfig(**options),
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("layout", [LAYOUT, PackedLayout((3, 1, 2))])
def test_two_half_jumps_along_a_trajectory_are_the_whole_jump(layout):
    teacher = Gaussian(layout=layout)
    x, t, r = _jumps(layout)
    jump = two_half_jumps(teacher.average_velocity, x, t, r=r, layout=layout)
    assert torch.allclose(jump, teacher.average_velocity(x, t, r=r), atol=1e-12)  # observed 4e-16


def test_half_jumps_are_asked_for_in_order_and_the_second_from_where_the_first_ends():
    x, t, r = _jumps()
    seen, speed = [], [2.0, 6.0]

    def target(x, t, *, r):
        seen.append((x, t, r))
        return torch.full_like(x, speed[len(seen) - 1])

    jump = two_half_jumps(target, x, t, r=r, layout=LAYOUT)
    middle = (t + r) / 2
    assert torch.allclose(jump, torch.full_like(x, 4.0))
    assert torch.equal(seen[0][0], x) and torch.equal(seen[0][1], t) and torch.allclose(seen[0][2], middle)
    assert torch.allclose(seen[1][0], x - 2.0 * (t - middle)[:, None])
    assert torch.allclose(seen[1][1], middle) and torch.equal(seen[1][2], r)


def test_shortest_half_jumps_are_asked_for_as_jumps_of_no_length():
    x, t = latents(LAYOUT, rows=6)
    r = t - torch.tensor([0.02, 0.04, 0.02, 0.04, 0.02, 0.04], dtype=torch.float64)
    seen = []

    def target(x, t, *, r):
        seen.append(t - r)
        return torch.zeros_like(x)

    two_half_jumps(target, x, t, r=r, layout=LAYOUT, shortest=0.01 + 1e-12)
    for interval in seen:
        assert torch.allclose(interval, torch.tensor([0.0, 0.02] * 3, dtype=torch.float64))


@pytest.mark.parametrize("num_steps", [2, 8, 128])
def test_jumps_lie_on_the_grid_of_their_length(num_steps):
    config = ShortcutConfig(num_steps=num_steps)
    r, t = draw_jumps(torch.zeros(1), 8000, config=config, generator=torch.Generator().manual_seed(0))
    length = t - r
    lengths = {2.0**-i for i in range(num_steps.bit_length() - 1)}
    assert set(length.tolist()) == lengths
    assert ((t / length) % 1 == 0).all() and (r >= 0).all() and (t <= 1).all()
    for one in lengths:
        chosen = length == one
        assert abs(float(chosen.float().mean()) - 1 / len(lengths)) < 0.02
        assert abs(float(r[chosen].mean()) - (1 - one) / 2) < 0.05  # all places are as likely


def test_a_share_of_the_jumps_goes_all_the_way():
    config = ShortcutConfig(p_one_step=0.5, num_steps=4)
    r, t = draw_jumps(torch.zeros(1), 8000, config=config, generator=torch.Generator().manual_seed(0))
    assert abs(float((t - r == 1).float().mean()) - 0.75) < 0.02


def test_ideal_student_has_no_loss_and_no_gradient():
    num = 64
    teacher = Gaussian(layout=DenseLayout(num))
    scale = torch.zeros(4, dtype=torch.float64, requires_grad=True)

    def student(x, t, *, r):
        deviation = scale[0] + scale[1] * x + scale[2] * t[:, None] + scale[3] * r[:, None]
        return teacher.average_velocity(x, t, r=r) + deviation

    out = _loss(student, slow=teacher.average_velocity, teacher=teacher.velocity, num=num, p_consistency=0.6)
    # Of the shortest jumps the halves are Euler steps, which are not exact.
    is_exact = out.interval != 2 / 128
    assert 0 < int((~is_exact).sum()) < 20
    assert out.loss[is_exact].max() < 1e-24
    (grad,) = torch.autograd.grad(out.loss[is_exact].sum(), scale)
    assert grad.abs().max() < 1e-12
    assert out.loss[~is_exact].max() < 1e-2  # observed 2e-3


def test_a_student_that_is_off_is_pulled_back():
    # Against an exact target u* + a errs by a everywhere.
    num, a = 64, torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    teacher = Gaussian(layout=DenseLayout(num))
    out = _loss(
        lambda x, t, *, r: teacher.average_velocity(x, t, r=r) + a,
        slow=teacher.average_velocity,
        teacher=teacher.velocity,
        num=num,
        p_consistency=0.6,
    )
    is_exact = out.interval != 2 / 128
    assert torch.allclose(out.loss[is_exact], (a**2).expand(int(is_exact.sum())), atol=1e-12)
    (grad,) = torch.autograd.grad(out.loss[is_exact].mean(), a)
    assert torch.allclose(grad, 2 * a, atol=1e-12)


def test_samples_learn_the_velocity_or_a_jump():
    num = 4000
    layout = DenseLayout(num)
    teacher = Gaussian(layout=layout)
    student = _two_times(Network(layout))
    out = _loss(student, slow=student, teacher=teacher.velocity, num=num)
    assert torch.equal(out.loss, out.flow + out.consistency)
    is_jump = out.interval > 0
    assert abs(float(is_jump.double().mean()) - 0.25) < 0.02
    assert (out.flow[is_jump] == 0).all() and (out.consistency[~is_jump] == 0).all()
    assert out.flow[~is_jump].min() > 0 and out.consistency[is_jump].min() > 0


def test_velocity_is_learned_at_the_state_of_the_path():
    seen = {}

    def student(x, t, *, r):
        seen.update(x=x, t=t, r=r)
        return torch.zeros_like(x)

    out = _loss(student, slow=student, p_consistency=0.0)
    # The last call is the second half jump; x is the state, as zero velocity leaves it.
    assert torch.equal(seen["r"], seen["t"]) and torch.equal(seen["t"], out.t)
    assert torch.allclose(out.loss, (TEACHER.velocity(seen["x"], out.t) ** 2).mean(1))


def test_whole_jumps_start_at_pure_noise():
    seen = []

    def student(x, t, *, r):
        seen.append(x)
        return torch.zeros_like(x)

    far = Latents(x_0=torch.full((6, 3), 1e6, dtype=torch.float64), layout=LAYOUT)
    config = ShortcutConfig(p_consistency=1.0, p_one_step=1.0, target="online")
    fields = Fields(student=student, teacher=TEACHER.velocity)
    out = shortcut_loss(fields, far, config=config, generator=torch.Generator().manual_seed(0))
    assert (out.t == 1).all() and (out.interval == 1).all() and seen[0].abs().max() < 10


def test_gradient_flows_through_the_student_alone():
    network, slow, teacher = (Network(LAYOUT, seed=seed) for seed in (1, 2, 3))
    calls = []

    def student(x, t, *, r):
        calls.append((x, t, r))
        return _two_times(network)(x, t, r=r)

    out = _loss(student, slow=_two_times(slow), teacher=teacher, p_consistency=0.5)
    out.loss.sum().backward()
    assert len(calls) == 1
    assert all(p.grad is None for net in (slow, teacher) for p in net.parameters())
    (x, t, r) = calls[0]
    jump = two_half_jumps(_two_times(slow), x, t, r=r, layout=LAYOUT, shortest=1 / 128)
    target = torch.where((out.interval > 0)[:, None], jump, teacher(x, t)).detach()
    loss = ((_two_times(network)(x, t, r=r) - target) ** 2).mean(1)
    assert torch.allclose(out.loss, loss)
    for parameter, grad in zip(
        network.parameters(), torch.autograd.grad(loss.sum(), list(network.parameters())), strict=True
    ):
        assert torch.allclose(parameter.grad, grad, atol=1e-12)


def test_online_target_is_the_student_itself_and_detached_too():
    network = Network(LAYOUT, seed=1)
    student = _two_times(network)
    online = _loss(student, slow=_two_times(Network(LAYOUT, seed=2)), p_consistency=1.0, target="online")
    frozen = _loss(student, slow=_two_times(Network(LAYOUT, seed=1)), p_consistency=1.0, target="ema")
    assert torch.equal(online.loss, frozen.loss)
    grads = [torch.autograd.grad(out.loss.sum(), network.out)[0] for out in (online, frozen)]
    assert torch.allclose(*grads, atol=1e-12)


def test_student_is_asked_with_gradients_before_it_is_asked_without():
    # The other way round autocast would keep weights that were narrowed without gradients.
    modes = []

    def student(x, t, *, r):
        modes.append(torch.is_grad_enabled())
        return torch.zeros_like(x)

    _loss(student, p_consistency=1.0, target="online")
    assert modes == [True, False, False]


def test_missing_slow_average_is_refused():
    with pytest.raises(ValueError, match="target is 'ema' but the fields have no slow average"):
        _loss(_two_times(Network(LAYOUT)))


def test_packed_batch_equals_its_samples_one_by_one_in_any_order_of_rows():
    lengths = (2, 5, 1, 4)
    layout = PackedLayout(lengths)
    x, t, r = _jumps(layout, rows=12)

    def jump(layout, x, t, r):
        return two_half_jumps(_two_times(Network(layout)), x, t, r=r, layout=layout)

    together = jump(layout, x, t, r)
    alone = [
        jump(PackedLayout((lengths[i],)), part, t[i : i + 1], r[i : i + 1]) for i, part in enumerate(x.split(lengths))
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-12)
    order = torch.tensor([1, 0, 4, 6, 2, 3, 5, 7, 11, 8, 10, 9])
    assert torch.allclose(jump(layout, x[order], t, r), together[order], atol=1e-12)


@pytest.mark.parametrize("p_consistency", [0.0, 1.0])
def test_packed_equals_dense_for_samples_of_one_length(p_consistency):
    losses = []
    for layout in (DenseLayout(6), PackedLayout((1,) * 6)):
        fields = Fields(student=_two_times(Network(layout)), teacher=Gaussian(layout=layout).velocity)
        batch = Latents(x_0=latents(layout, rows=6)[0], layout=layout)
        config = ShortcutConfig(p_consistency=p_consistency, target="online")
        losses.append(shortcut_loss(fields, batch, config=config, generator=torch.Generator().manual_seed(0)).loss)
    assert torch.allclose(*losses, atol=1e-12)


def test_needs_and_cost():
    assert OBJECTIVES["shortcut"].variant("paper") == ShortcutConfig()
    assert ShortcutConfig().needs == {"interval", "target"}
    assert ShortcutConfig(target="online").needs == {"interval"}
    assert ShortcutConfig().cost.forwards() == 7  # table 12


@pytest.mark.parametrize(
    "options",
    [{"p_consistency": 1.5}, {"p_one_step": -0.1}, {"num_steps": 100}, {"num_steps": 1}, {"target": "teacher"}],
)
def test_config_refuses_impossible_values(options):
    (name,) = options
    with pytest.raises((ValueError, TypeError), match=name):  # TypeError where annotations are checked
        ShortcutConfig(**options)
