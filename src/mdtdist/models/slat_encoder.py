"""Encoder of the structured-latent VAE: image features on voxels to a latent on the same voxels."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from mdtdist.models.sparse_transformer import SparseTransformer
from mdtdist.sparse import SparseTensor


class SLatEncoder(SparseTransformer):
    """Sparse features ``[N, in_channels]`` to mean and log-variance ``[N, latent_channels]`` on the same rows."""

    def __init__(self, *, resolution: int, in_channels: int, latent_channels: int, **base: Any) -> None:
        super().__init__(resolution=resolution, in_channels=in_channels, out_channels=2 * latent_channels, **base)

    def forward(self, x: SparseTensor) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
        """Mean and log-variance."""
        mean, logvar = self.features(x).chunk(2, dim=-1)
        return mean, logvar
