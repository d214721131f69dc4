"""Gaussian decoder of the structured latent: a fixed number of 3D Gaussians per voxel."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mdtdist.models.sparse_transformer import SparseTransformer
from mdtdist.representations import Gaussians
from mdtdist.sparse import SparseTensor

_RANGES = (("_xyz", 3), ("_features_dc", 3), ("_scaling", 3), ("_rotation", 4), ("_opacity", 1))


def radical_inverse(index: int, base: int) -> float:
    """Digits of ``index`` in ``base`` mirrored behind the point (van der Corput sequence)."""
    value, weight = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value, weight = value + digit * weight, weight / base
    return value


def offset_perturbation(num_gaussians: int, voxel_size: float) -> Float[Tensor, "K 3"]:
    """Raw offsets whose tanh spreads the Gaussians of a voxel over Hammersley points."""
    points = torch.tensor(
        [[n / num_gaussians, radical_inverse(n, 2), radical_inverse(n, 3)] for n in range(num_gaussians)],
        dtype=torch.float64,
    )
    return torch.atanh((2 * points - 1) / voxel_size).float()


class SLatGaussianDecoder(SparseTransformer):
    """Latent ``[N, latent_channels]`` on voxels to ``num_gaussians`` Gaussians per voxel, voxel-major.

    Per voxel the raw channels are, in order, offset (K x 3), colour (K x 3), scale (K x 3), rotation (K x 4) and
    opacity (K); ``representation_config`` holds the activation constants under their official names.
    """

    offset_perturbation: Tensor

    def __init__(
        self, *, resolution: int, latent_channels: int, representation_config: Mapping[str, Any], **base: Any
    ) -> None:
        self.rep = dict(representation_config)
        super().__init__(
            resolution=resolution, in_channels=latent_channels, out_channels=14 * self.rep["num_gaussians"], **base
        )
        if self.rep["scaling_activation"] not in ("softplus", "exp"):
            raise ValueError(f"scaling_activation is '{self.rep['scaling_activation']}'; expected softplus or exp")
        perturbation = offset_perturbation(self.rep["num_gaussians"], self.rep["voxel_size"])
        self.register_buffer("offset_perturbation", perturbation)

    def forward(self, x: SparseTensor) -> list[Gaussians]:
        """One set of Gaussians per batch item."""
        return self.to_gaussians(x.replace(self.features(x)))

    def to_gaussians(self, raw: SparseTensor) -> list[Gaussians]:
        """Activate the raw channels of the linear head."""
        attributes = self._split(raw.feats.float())
        centers = (raw.coords[:, 1:].float() + 0.5) / self.resolution - 0.5
        offset = attributes["_xyz"]
        if self.rep["perturb_offset"]:
            offset = offset + self.offset_perturbation
        half_extent = self.rep["voxel_size"] / (2 * self.resolution)
        means = centers[:, None] + torch.tanh(offset) * half_extent
        identity = attributes["_rotation"].new_tensor([1.0, 0.0, 0.0, 0.0])
        opacity_bias = math.log(self.rep["opacity_bias"] / (1 - self.rep["opacity_bias"]))
        fields = {
            "means": means,
            "scales": self._scales(attributes["_scaling"]),
            "rotations": F.normalize(attributes["_rotation"] + identity, dim=-1),
            "opacities": torch.sigmoid(attributes["_opacity"][..., 0] + opacity_bias),
            "sh": attributes["_features_dc"][..., None, :],
        }
        items = {name: value.split(list(raw.lengths)) for name, value in fields.items()}
        return [
            Gaussians(**{name: parts[i].flatten(0, 1) for name, parts in items.items()})
            for i in range(len(raw.lengths))
        ]

    def _split(self, raw: Float[Tensor, "N _"]) -> dict[str, Float[Tensor, "N K c"]]:
        num, lr = self.rep["num_gaussians"], self.rep["lr"]
        parts = raw.split([num * width for _, width in _RANGES], dim=-1)
        return {
            name: part.unflatten(-1, (num, width)) * lr[name]
            for part, (name, width) in zip(parts, _RANGES, strict=True)
        }

    def _scales(self, raw: Float[Tensor, "N K 3"]) -> Float[Tensor, "N K 3"]:
        bias = self.rep["scaling_bias"]
        if self.rep["scaling_activation"] == "exp":
            scale = torch.exp(raw + math.log(bias))
        else:
            scale = F.softplus(raw + bias + math.log(-math.expm1(-bias)))  # inverse softplus of the bias
        return torch.sqrt(scale**2 + self.rep["3d_filter_kernel_size"] ** 2)
