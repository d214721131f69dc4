from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mdtdist.flow import DenseLayout
from mdtdist.objectives import OBJECTIVES, Fields, Latents, Normalization
from tests.parity.distillation import guided, mdt, network_field, recorded_draws, with_prefix
from tests.parity.families import FAMILIES
from tests.parity.replay import read_case

DATA = Path(__file__).parent / "data"


def _released_loss(case, **changes):
    """``mdt_loss`` of the released variant with the recorded times and noises, and the weights it depends on."""
    weights = {name: w.requires_grad_() for name, w in with_prefix(case.weights, "student.").items()}
    config = replace(OBJECTIVES["mdt"].variant("released"), **changes)
    low = config.derivative.delta_t + config.sigma_min
    normal = (torch.logit((case.inputs["t"] - low) / (1 - low)) - config.time.mean) / config.time.std
    unused = torch.full_like(case.inputs["noise"], torch.nan)
    draws = [normal, case.inputs["noise"], case.inputs["noise_fake"], unused]
    fields = Fields(student=network_field(weights, case.inputs["cond"]), teacher=guided(case))
    latents = Latents(x_0=case.inputs["x_0"], layout=DenseLayout(len(normal)))
    with recorded_draws(normal=draws, uniform=torch.ones_like(normal)):
        loss = OBJECTIVES["mdt"].losses["student"](fields, latents, config=config, generator=torch.Generator())
    return loss, weights


def test_the_released_variant_of_mdt_is_what_the_released_trainer_computes():
    case = read_case(DATA, "mdt_discrete_official")
    loss, weights = _released_loss(case)
    assert torch.allclose(loss.t, case.inputs["t"], atol=1e-6)
    for name, value in (("vm", loss.vm), ("vd", loss.vd), ("total", loss.loss)):
        recorded = case.outputs[f"loss.{name}"].item()
        assert value.mean().item() == pytest.approx(recorded, rel=5e-5)  # observed 3e-7
        gradients = torch.autograd.grad(value.mean(), list(weights.values()), retain_graph=True)
        for key, gradient in zip(weights, gradients, strict=True):
            recorded = case.outputs[f"grad.{name}.{key}"]
            assert (gradient - recorded).abs().max() <= 5e-5 * recorded.abs().max()


@pytest.mark.parametrize(
    "change",
    [
        {"normalization": Normalization()},
        {"vd_weighting": "one_minus_t"},
        {"guidance_vm": 7.5},
        {"guidance_vd": 7.5},
        {"vd_noise": "independent"},
    ],
)
def test_each_option_of_the_released_variant_matters(change):
    case = read_case(DATA, "mdt_discrete_official")
    loss, _ = _released_loss(case, **change)
    assert not abs(loss.loss.mean() / case.outputs["loss.total"] - 1) < 1e-4  # the noise it should not use is NaN


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family is mdt])
def test_small_numbers_of_the_release_are_reproduced_too(name):
    # Relative to the largest number of each tensor; the replay takes differences below 1 as they are.
    case = read_case(DATA, name)
    for key, value in FAMILIES[name](case).items():
        recorded = case.outputs[key]
        assert (value - recorded).abs().max() <= 1e-4 * recorded.abs().max(), key
