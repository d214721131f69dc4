"""Adapters that turn a raw network, its condition and its voxels into a velocity field ``v(x, t)``, t in [0, 1].

A field of a network that embeds the interval takes ``r``, and of one that embeds the guidance ``w``, as a number or one
per sample.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdtdist.flow import VelocityField
from mdtdist.models.extra_embeddings import check_embeds, extra_embeddings
from mdtdist.sparse import SparseTensor

TIME_SCALE = 1000.0  # TRELLIS networks take 1000 t
# As SANA-Sprint (arXiv 2503.09641) scales the weight it embeds: the fastest of the embedder's waves turns by a tenth of
# a radian per unit of w, so that neighbouring weights look alike and none up to 30 looks like another.
GUIDANCE_SCALE = 0.1


def velocity_field(
    network: nn.Module, cond: Float[Tensor, "B L D"], *, time_scale: float = TIME_SCALE
) -> VelocityField:
    """The field of a dense network such as ``SparseStructureFlowModel``.

    Args:
        network: called as ``network(x, time_scale t, cond)``, with ``interval`` and ``guidance`` if it embeds them.
        cond: condition tokens of the batch.
        time_scale: network time at pure noise, a property of the checkpoint.

    Returns:
        ``v(x, t, *, r=None, w=None)``; where the network embeds them, r is 0 and w is 0 (no guidance) if not given.
        Asking for what it does not embed is an ``InputError``.
    """

    def field(
        x: Float[Tensor, "B ..."],
        t: Float[Tensor, "B"],
        *,
        r: Tensor | float | None = None,
        w: Tensor | float | None = None,
    ) -> Float[Tensor, "B ..."]:
        return network(x, time_scale * _wide(t), cond, **_embedded(network, t, r, w, time_scale=time_scale))

    return field


def sparse_velocity_field(
    network: nn.Module, cond: Float[Tensor, "B L D"], coords: Int[Tensor, "N 4"], *, time_scale: float = TIME_SCALE
) -> VelocityField:
    """The field of a sparse network such as ``SLatFlowModel`` on fixed voxels; states are packed rows ``[N, C]``.

    Tables that depend on the voxels are computed once and shared by all evaluations of the field. It takes ``r`` and
    ``w`` like that of ``velocity_field``.
    """
    sites = SparseTensor(cond.new_zeros(len(coords), 0), coords)

    def field(
        x: Float[Tensor, "N C"],
        t: Float[Tensor, "B"],
        *,
        r: Tensor | float | None = None,
        w: Tensor | float | None = None,
    ) -> Float[Tensor, "N C"]:
        extra = _embedded(network, t, r, w, time_scale=time_scale)
        return network(sites.replace(x), time_scale * _wide(t), cond, **extra).feats

    return field


def logit_field(
    discriminator: nn.Module,
    cond: Float[Tensor, "B L D"],
    coords: Int[Tensor, "N 4"] | None = None,
    *,
    time_scale: float = TIME_SCALE,
) -> VelocityField:
    """A discriminator such as ``LatentDiscriminator`` as a function ``logits(x, t)``, one row per sample.

    It takes ``w`` like a velocity field, where the network that it reads does.

    Args:
        discriminator: called as ``discriminator(x, time_scale t, cond)``.
        cond: condition tokens of the batch.
        coords: voxels of packed latents ``[N, C]``; None for dense latents.
        time_scale: network time at pure noise, a property of the teacher's checkpoint.
    """
    sites = None if coords is None else SparseTensor(cond.new_zeros(len(coords), 0), coords)

    def logits(
        x: Float[Tensor, "..."], t: Float[Tensor, "B"], *, w: Tensor | float | None = None
    ) -> Float[Tensor, "B H"]:
        extra = _embedded(discriminator, t, None, w, time_scale=time_scale)
        return discriminator(x if sites is None else sites.replace(x), time_scale * _wide(t), cond, **extra)

    return logits


def _embedded(
    network: nn.Module, t: Tensor, r: Tensor | float | None, w: Tensor | float | None, *, time_scale: float
) -> dict[str, Tensor]:
    """What the network is told beside the time: the interval ``time_scale (t - r)``, the guidance ``0.1 w``."""
    names = extra_embeddings(network)
    inputs: dict[str, Tensor] = {}
    if r is not None:
        check_embeds(network, "interval")
    if w is not None:
        check_embeds(network, "guidance")
    if "interval" in names:
        inputs["interval"] = time_scale * _wide(t - (0.0 if r is None else r))
    if "guidance" in names:
        inputs["guidance"] = GUIDANCE_SCALE * torch.ones_like(_wide(t)) * (0.0 if w is None else w)
    return inputs


def _wide(t: Tensor) -> Tensor:
    """Times in at least float32."""
    return t.to(torch.promote_types(t.dtype, torch.float32))
