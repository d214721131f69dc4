"""Adapters that turn a raw network, its condition and its voxels into a velocity field ``v(x, t)``, t in [0, 1]."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from mdtdist.flow import VelocityField
from mdtdist.sparse import SparseTensor

TIME_SCALE = 1000.0  # TRELLIS networks take 1000 t


def velocity_field(
    network: nn.Module, cond: Float[Tensor, "B L D"], *, time_scale: float = TIME_SCALE
) -> VelocityField:
    """The field of a dense network such as ``SparseStructureFlowModel``.

    Args:
        network: called as ``network(x, time_scale t, cond)``.
        cond: condition tokens of the batch.
        time_scale: network time at pure noise, a property of the checkpoint.
    """

    def field(x: Float[Tensor, "B ..."], t: Float[Tensor, "B"]) -> Float[Tensor, "B ..."]:
        return network(x, time_scale * t.float(), cond)

    return field


def sparse_velocity_field(
    network: nn.Module, cond: Float[Tensor, "B L D"], coords: Int[Tensor, "N 4"], *, time_scale: float = TIME_SCALE
) -> VelocityField:
    """The field of a sparse network such as ``SLatFlowModel`` on fixed voxels; states are packed rows ``[N, C]``.

    Tables that depend on the voxels are computed once and shared by all evaluations of the field.
    """
    sites = SparseTensor(cond.new_zeros(len(coords), 0), coords)

    def field(x: Float[Tensor, "N C"], t: Float[Tensor, "B"]) -> Float[Tensor, "N C"]:
        return network(sites.replace(x), time_scale * t.float(), cond).feats

    return field
