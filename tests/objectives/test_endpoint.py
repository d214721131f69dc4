"""Endpoint regression against a teacher whose Euler samples are known in closed form."""

import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout, randn_like
from mdtdist.objectives import EndpointConfig, endpoint_loss


def teacher(x, t):
    """``v = x``: n equal Euler steps from t = 1 to 0 multiply by ``(1 - 1 / n)^n``."""
    return x


def options(steps: int = 4):
    return {"layout": DenseLayout(3), "config": EndpointConfig(steps=steps, rescale_t=1.0)}


def drawn_noise(x_0, seed: int):
    return randn_like(x_0, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [1, 4])
def test_targets_are_the_teachers_samples_and_the_right_student_has_no_loss(steps):
    x_0, shrink = torch.zeros(3, 5), (1 - 1 / steps) ** steps
    result = endpoint_loss(
        lambda x, t: (1 - shrink) * x, teacher, x_0, generator=torch.Generator().manual_seed(0), **options(steps)
    )
    torch.testing.assert_close(result.targets, shrink * drawn_noise(x_0, 0))
    torch.testing.assert_close(result.loss, torch.zeros(3), atol=1e-12, rtol=0)


def test_loss_and_gradient_are_those_of_the_mean_square():
    weight = torch.tensor(0.3, requires_grad=True)
    x_0, shrink, seen = torch.zeros(3, 5), 0.75**4, []

    def student(x, t):
        seen.append(t)
        return weight * x

    result = endpoint_loss(student, teacher, x_0, generator=torch.Generator().manual_seed(1), **options())
    square = (drawn_noise(x_0, 1) ** 2).mean(1)
    torch.testing.assert_close(result.loss.detach(), (1 - 0.3 - shrink) ** 2 * square)
    result.loss.sum().backward()
    torch.testing.assert_close(weight.grad, -2 * (1 - 0.3 - shrink) * square.sum())
    assert len(seen) == 1 and torch.equal(seen[0], torch.ones(3)) and torch.equal(result.t, torch.ones(3))


def test_the_teacher_gets_no_gradient():
    scale = torch.tensor(1.0, requires_grad=True)
    weight = torch.tensor(0.3, requires_grad=True)
    x_0 = torch.zeros(3, 5)
    result = endpoint_loss(
        lambda x, t: weight * x, lambda x, t: scale * x, x_0, generator=torch.Generator(), **options()
    )
    result.loss.sum().backward()
    assert scale.grad is None and weight.grad != 0 and not result.targets.requires_grad


def test_kept_targets_replace_the_teacher():
    def refuse(x, t):
        raise AssertionError("the teacher was asked")

    def student(x, t):
        return 0.2 * x

    x_0 = torch.zeros(3, 5)
    first = endpoint_loss(student, teacher, x_0, generator=torch.Generator().manual_seed(2), **options())
    again = endpoint_loss(
        student, refuse, x_0, generator=torch.Generator().manual_seed(2), targets=first.targets, **options()
    )
    assert torch.equal(again.loss, first.loss)


def test_packed_samples_are_averaged_on_their_own():
    x_0 = torch.zeros(6, 2)
    result = endpoint_loss(
        lambda x, t: 0 * x,
        teacher,
        x_0,
        layout=PackedLayout((1, 5)),
        config=EndpointConfig(steps=1, rescale_t=1.0),
        generator=torch.Generator().manual_seed(3),
    )
    noise = drawn_noise(x_0, 3)  # one step of v = x ends at 0
    torch.testing.assert_close(result.loss, torch.stack([(noise[:1] ** 2).mean(), (noise[1:] ** 2).mean()]))


def test_steps_below_one_are_refused():
    with pytest.raises(ValueError, match="steps is 0"):
        EndpointConfig(steps=0)
