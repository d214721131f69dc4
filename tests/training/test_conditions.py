"""Image conditions: how they are projected, drawn and dropped."""

import pytest
import torch

from mdtdist.conditioning import ImageTokenEncoder
from mdtdist.training import conditions
from mdtdist.training.conditions import ConditionBank, drop_conditions, load_or_fit_image_encoder


@pytest.mark.parametrize("p_uncond", [0.0, 0.3, 1.0])
def test_dropping_replaces_whole_conditions_by_zeros(p_uncond):
    cond = torch.ones(4000, 2, 3)
    kept = drop_conditions(cond, p_uncond, generator=torch.Generator().manual_seed(0))
    values = kept.flatten(1).unique(dim=0)
    assert set(map(tuple, values.tolist())) <= {(0.0,) * 6, (1.0,) * 6}
    assert kept.mean().item() == pytest.approx(1 - p_uncond, abs=3 * (p_uncond * (1 - p_uncond) / 4000) ** 0.5)


def test_drawn_tokens_are_the_projected_ones_of_the_object_and_its_mirror_image(prepared, networks):
    encoder = ImageTokenEncoder.load(networks / "image_encoder")
    ids = prepared.ids("train")
    bank = ConditionBank(prepared, ids, encoder)
    assert (bank.num_views, bank.channels) == (2, 12)
    drawn = bank.draw([3, 0], torch.tensor([True, False]), generator=torch.Generator().manual_seed(0))
    for tokens, item, flag in zip(drawn, (3, 0), (1, 0), strict=True):
        raw = prepared.condition_tokens(ids[item])[:, flag].float()
        expected = (raw - encoder.mean) @ encoder.components
        assert min((tokens - view).abs().max() for view in expected) < 2e-3  # kept in float16


@pytest.mark.parametrize(("limit", "share"), [(10**6, 1), (490, 2), (200, 4)])
def test_projection_is_fitted_on_as_many_training_tokens_as_allowed(prepared, monkeypatch, tmp_path, limit, share):
    """Five objects of two views, plain and mirrored, of 49 tokens: 980."""
    fitted = []

    def fit(tokens):
        fitted.append(tokens)
        return torch.zeros(896), torch.eye(896, 4)

    monkeypatch.setattr(conditions, "fit_projection", fit)
    monkeypatch.setattr(conditions, "_FIT_TOKENS", limit)
    encoder = load_or_fit_image_encoder(prepared, tmp_path / "image_encoder")
    assert abs(len(fitted[0]) - 980 / share) <= 5 and fitted[0].dtype == torch.float32
    again = load_or_fit_image_encoder(prepared, tmp_path / "image_encoder")
    assert len(fitted) == 1 and torch.equal(encoder.components, again.components)
