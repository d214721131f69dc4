"""Radiance-field decoder of the structured latent: a Strivec with one tri-vector block per voxel."""

from collections.abc import Mapping
from typing import Any

from mdtdist.models.sparse_transformer import SparseTransformer
from mdtdist.representations import Strivec
from mdtdist.sparse import SparseTensor


class SLatRadianceFieldDecoder(SparseTransformer):
    """Latent ``[N, latent_channels]`` on voxels to a Strivec on the same voxels.

    Per voxel the raw channels are, in order, the vectors (rank x 3 x dim), the density weights (rank) and the colour
    weights (rank x 3); ``representation_config`` holds ``rank`` and ``dim``. One is added to the vectors, so that zero
    channels make every component constant; the activations of density and colour belong to the field itself.
    """

    def __init__(
        self, *, resolution: int, latent_channels: int, representation_config: Mapping[str, Any], **base: Any
    ) -> None:
        self.rank, self.dim = representation_config["rank"], representation_config["dim"]
        out_channels = self.rank * (3 * self.dim + 1 + 3)
        super().__init__(resolution=resolution, in_channels=latent_channels, out_channels=out_channels, **base)

    def forward(self, x: SparseTensor) -> list[Strivec]:
        """One field per batch item."""
        return self.to_strivec(x.replace(self.features(x)))

    def to_strivec(self, raw: SparseTensor) -> list[Strivec]:
        """Name the raw channels of the linear head."""
        vectors, density, colors = raw.feats.float().split([self.rank * 3 * self.dim, self.rank, self.rank * 3], dim=-1)
        lengths = list(raw.lengths)
        return [
            Strivec(
                coords=coords[:, 1:], resolution=self.resolution, trivec=trivec, density=weights, features_dc=features
            )
            for coords, trivec, weights, features in zip(
                raw.coords.split(lengths),
                (vectors.unflatten(-1, (self.rank, 3, self.dim)) + 1).split(lengths),
                density.split(lengths),
                colors.unflatten(-1, (self.rank, 1, 3)).split(lengths),
                strict=True,
            )
        ]
