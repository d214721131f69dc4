"""Several images of one object."""

import pytest
import torch

from mdtdist import ImageTo3D
from mdtdist.errors import InputError
from mdtdist.flow import EulerSampler, Guidance
from mdtdist.pipelines.views import evaluations, multidiffusion_field, stochastic_field
from tests.pipelines.test_image_to_3d import assert_same, picture
from tests.pipelines.tiny import write_pipeline


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return ImageTo3D.from_pretrained(write_pipeline(tmp_path_factory.mktemp("views")))


def constant(value: float):
    return lambda x, t: torch.full_like(x, value)


def test_stochastic_steps_take_turns():
    """Four steps of 1/4 with velocities 1, 10, 100, 1: the state falls by a quarter of each."""
    field = stochastic_field([constant(1.0), constant(10.0), constant(100.0)])
    run = EulerSampler(steps=4).sample(field, torch.zeros(1, 2), num_samples=1)
    torch.testing.assert_close(torch.stack([s.x[0, 0] for s in run.steps]), -torch.tensor([1, 11, 111, 112]) / 4)
    assert evaluations("stochastic", num_views=3, num_steps=4, counted=run.num_evaluations) == 4


def test_multidiffusion_follows_the_mean_and_is_guided_as_one():
    """Mean 4 of velocities 1 and 7; guidance w = 2 against -1 gives 3 * 4 + 2 = 14."""
    field = multidiffusion_field([constant(1.0), constant(7.0)])
    sampler = EulerSampler(steps=1, guidance=Guidance(w=2.0))
    run = sampler.sample(field, torch.zeros(1, 2), num_samples=1, negative=constant(-1.0))
    torch.testing.assert_close(run.x, torch.full((1, 2), -14.0))
    assert evaluations("multidiffusion", num_views=2, num_steps=1, counted=run.num_evaluations) == 3


@pytest.mark.parametrize("fusion", ["stochastic", "multidiffusion"])
@pytest.mark.parametrize("flows", ["student", "teacher"])
def test_one_view_is_an_image_and_equal_views_are_one(pipe, fusion, flows):
    alone = pipe(picture(), steps=2, flows=flows)
    assert_same(pipe.from_views([picture()], fusion=fusion, steps=2, flows=flows), alone)
    twice = pipe.from_views([picture(), picture()], fusion=fusion, steps=2, flows=flows)
    torch.testing.assert_close(twice.logits, alone.logits, atol=1e-5, rtol=1e-5)


def test_one_stochastic_step_sees_the_first_view_alone(pipe):
    first, second = picture(), picture((0, 0, 255))
    assert_same(pipe.from_views([first, second], steps=1), pipe(first, steps=1))
    assert not torch.equal(pipe.from_views([first, second], steps=2).logits, pipe(first, steps=2).logits)


def test_evaluations_are_counted(pipe):
    views = [picture(), picture((0, 0, 255)), picture((0, 255, 0))]
    # The teacher's 5 steps: guidance is on in 4 of them; two views more cost two evaluations more a step.
    mean = pipe.from_views(views, fusion="multidiffusion", flows="teacher")
    assert mean.nfe == {"structure": 9 + 2 * 5, "latent": 9 + 2 * 5}
    assert pipe.from_views(views, flows="teacher").nfe == {"structure": 9, "latent": 9}


def test_order_of_views_does_not_matter_to_their_mean(pipe):
    views = [picture(), picture((0, 0, 255))]
    one, other = (pipe.from_views(order, fusion="multidiffusion", steps=2) for order in (views, views[::-1]))
    torch.testing.assert_close(one.logits, other.logits, atol=1e-5, rtol=1e-5)


def test_wrong_views_are_input_errors(pipe):
    with pytest.raises(InputError, match="fusion is 'mean'; expected 'stochastic' or 'multidiffusion'"):
        pipe.from_views([picture()], fusion="mean")
    with pytest.raises(InputError, match="list of views is empty"):
        pipe.from_views([])
