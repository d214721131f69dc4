"""Recorded cases of the networks and distances that judge pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mdtdist.evaluation.encoders.inception import FidInceptionV3, resize_tensorflow1, to_network
from mdtdist.evaluation.encoders.lpips import LPIPS
from mdtdist.evaluation.metrics.frechet import fit_gaussian, frechet_distance
from mdtdist.evaluation.metrics.kernel import draw_subsets, kernel_distance, subset_kernel_distance

if TYPE_CHECKING:
    from tests.parity.families import Case


def eval_inception(case: Case) -> dict[str, Tensor]:
    network = FidInceptionV3(**case.config["args"])
    network.load_state_dict(case.weights, strict=True)
    network.eval()
    pictures = case.inputs["image"].float()
    half_pixel = to_network(pictures, convention="pytorch_fid")
    return {
        **network(to_network(pictures, convention="fidelity")),
        "2048_halfpixel": network(half_pixel)["2048"],
        "resized_tf_every23": resize_tensorflow1(pictures, 299)[:, :, ::23, ::23],
        "resized_halfpixel_every23": ((half_pixel + 1) * 127.5)[:, :, ::23, ::23],
    }


def eval_lpips(case: Case) -> dict[str, Tensor]:
    network = LPIPS(**case.config["args"])
    network.load_state_dict(case.weights, strict=True)
    a, b = ((case.inputs[name] + 1) / 2 for name in ("image0", "image1"))  # recorded in [-1, 1]
    outputs = {f"feature_mean{layer}": value.mean((-2, -1)) for layer, value in enumerate(network.features(a))}
    layers = network.layers(a, b)
    return {**outputs, **{f"layer{i}": value for i, value in enumerate(layers)}, "distance": network(a, b)}


def eval_frechet(case: Case) -> dict[str, Tensor]:
    a1, a2, r1, r2 = (case.inputs[name].numpy() for name in ("a1", "a2", "r1", "r2"))
    gaussians = [fit_gaussian(features) for features in (a1, a2)]
    args = case.config["args"]
    rows = draw_subsets(len(a1), len(a2), num_subsets=args["subsets"], size=args["subset_size"])
    for drawn, name in zip(rows, ("subset1", "subset2"), strict=True):
        assert np.array_equal(drawn, case.inputs[name]), name
    subsets = subset_kernel_distance(a1, a2, num_subsets=args["subsets"], size=args["subset_size"])
    outputs = {
        "frechet": frechet_distance(*gaussians[0], *gaussians[1]),
        "frechet_deficient": frechet_distance(*fit_gaussian(r1), *fit_gaussian(r2)),
        "mmd2_full": kernel_distance(a1, a2),
        "mmd2_unequal": kernel_distance(a1, a2[: len(a2) - 37]),
        "kernel_mean": subsets.mean,
        "kernel_std": subsets.std,
        "subset_mmd2": subsets.values,
        **{f"mu{i}": mean for i, (mean, _) in enumerate(gaussians, 1)},
        **{f"sigma{i}": covariance for i, (_, covariance) in enumerate(gaussians, 1)},
    }
    return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in outputs.items()}
