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
    guided = guided_field(_cond, _negative, Guidance(w=0.0), expand=layout.expand)
    assert guided is _cond
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
