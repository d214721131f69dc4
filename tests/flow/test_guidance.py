import pytest
import torch

from mdtdist.flow import DenseLayout, Guidance, PackedLayout, guided_field


def _cond(x, t):
    return torch.full_like(x, 2.0)


def _negative(x, t):
    return torch.full_like(x, -1.0)


def test_weight_is_added_on_top_of_one():
    guidance = Guidance(w=3.0)
    assert guidance.combine(torch.tensor(2.0), torch.tensor(-1.0)) == 4 * 2.0 - 3 * -1.0


def test_no_weight_is_the_conditional_field():
    layout = DenseLayout(2)

    def negative(x, t):
        raise AssertionError("evaluated")

    guided = guided_field(_cond, negative, Guidance(w=0.0), expand=layout.expand)
    x, t = torch.zeros(2, 1), torch.tensor([0.2, 1.0])
    assert torch.equal(guided(x, t), _cond(x, t))
    assert not Guidance(w=0.0).is_active(0.7)


def test_interval_includes_its_ends():
    guidance = Guidance(w=1.0, interval=(0.25, 0.75))
    assert [guidance.is_active(t) for t in (0.24, 0.25, 0.5, 0.75, 0.76)] == [False, True, True, True, False]


def test_guided_field_decides_for_each_sample():
    layout = PackedLayout((2, 1, 3))
    guided = guided_field(_cond, _negative, Guidance(w=3.0, interval=(0.5, 1.0)), expand=layout.expand)
    v = guided(torch.zeros(6, 2), torch.tensor([0.5, 0.4, 1.0]))
    assert v[:, 0].tolist() == [11, 11, 2, 11, 11, 11]


def test_guided_field_agrees_with_the_guidance_of_the_sampler():
    guidance = Guidance(w=1.5, interval=(0.3, 0.8))
    guided = guided_field(_cond, _negative, guidance, expand=DenseLayout(1).expand)
    for t in (0.1, 0.5, 0.9):
        x = torch.zeros(1, 2)
        time = torch.tensor([t])
        expected = guidance.combine(_cond(x, time), _negative(x, time)) if guidance.is_active(t) else _cond(x, time)
        assert torch.equal(guided(x, time), expected)


def test_negative_field_is_not_evaluated_outside_the_interval():
    def negative(x, t):
        raise AssertionError("evaluated")

    guided = guided_field(_cond, negative, Guidance(w=3.0, interval=(0.5, 1.0)), expand=DenseLayout(2).expand)
    assert torch.equal(guided(torch.zeros(2, 1), torch.tensor([0.1, 0.4])), torch.full((2, 1), 2.0))


def _guided(layout, w=3.0, negative=_negative):
    return guided_field(_cond, negative, Guidance(w=w, interval=(0.5, 1.0)), expand=layout.expand)


def test_weight_can_be_given_with_the_question():
    x, t = torch.zeros(2, 2), torch.tensor([0.5, 1.0])
    guided = _guided(DenseLayout(2))
    assert torch.equal(guided(x, t, w=1.0), torch.full((2, 2), 2 * 2.0 - 1 * -1.0))
    assert torch.equal(guided(x, t), guided(x, t, w=3.0)) and torch.equal(guided(x, t, w=None), guided(x, t))


def test_each_sample_can_have_its_own_weight():
    layout = PackedLayout((2, 1, 3))
    w = torch.tensor([1.0, 2.0, 0.0])
    v = _guided(layout)(torch.zeros(6, 2), torch.ones(3), w=w)
    assert v[:, 0].tolist() == [5, 5, 8, 2, 2, 2]


def test_given_weight_is_bound_to_the_interval():
    layout = PackedLayout((2, 1, 3))
    w = torch.tensor([1.0, 2.0, 4.0])
    v = _guided(layout, w=0.0)(torch.zeros(6, 2), torch.tensor([0.5, 0.4, 1.0]), w=w)
    assert v[:, 0].tolist() == [5, 5, 2, 14, 14, 14]


@pytest.mark.parametrize("w", [0.0, torch.zeros(2)])
def test_a_weight_of_zero_spares_the_negative_field(w):
    def negative(x, t):
        raise AssertionError("evaluated")

    x, t = torch.zeros(2, 1), torch.ones(2)
    assert torch.equal(_guided(DenseLayout(2), negative=negative)(x, t, w=w), _cond(x, t))


def test_guided_velocity_keeps_the_type_of_the_field():
    x = torch.zeros(2, 1, dtype=torch.float16)
    v = _guided(DenseLayout(2))(x, torch.ones(2, dtype=torch.float32))
    assert v.dtype == torch.float16
