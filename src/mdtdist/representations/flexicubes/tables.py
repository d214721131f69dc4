"""Case tables of dual marching cubes, generated from the rule that defines them.

A case is the set of inside corners of a cube, ``sum(2^corner)``. Corners are numbered with x fastest. The crossing
edges of a case fall into patches, the closed curves that the surface cuts out of the cube's boundary; each patch gets
one dual vertex (Nielson, "Dual marching cubes", 2004).
"""

import functools
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Int
from torch import Tensor

CORNERS = tuple((corner & 1, corner >> 1 & 1, corner >> 2 & 1) for corner in range(8))
# First and second end of every edge; y edges run from high to low.
EDGES = ((0, 1), (1, 5), (4, 5), (0, 4), (2, 3), (3, 7), (6, 7), (2, 6), (2, 0), (3, 1), (7, 5), (6, 4))
MAX_PATCH_SIZE = 7

Face = tuple[int, int]
"""Axis of the normal, and 0 for the low or 1 for the high side of the cube."""

_FACES: tuple[Face, ...] = tuple(product(range(3), range(2)))


def patches(case: int, *, opposite: Face | None = None) -> tuple[tuple[int, ...], ...]:
    """The crossing edges of a case, partitioned into patches; edges and patches ascend.

    On every face two crossing edges are joined. Four crossing edges (an ambiguous face) are joined in two pairs, so
    that each inside corner of the face is cut off alone; on the face ``opposite`` each outside corner is.
    """
    groups = {edge: {edge} for edge in range(12) if _is_crossing(case, edge)}
    for face in _FACES:
        for a, b in _joined_edges(case, face, cut_off_inside=face != opposite):
            merged = groups[a] | groups[b]
            groups.update(dict.fromkeys(merged, merged))
    return tuple(sorted({tuple(sorted(group)) for group in groups.values()}))


def repair_direction(case: int) -> tuple[int, int, int] | None:
    """Where a case can clash with its neighbour: the outward normal of its ambiguous face; None for most cases.

    These are the cases with exactly one ambiguous face, one patch, and two patches under the opposite joining. Two of
    them face to face would make an edge that four triangles share; case ``255 - case`` has the same crossing edges and
    joins them the other way.
    """
    ambiguous = [face for face in _FACES if len(_crossing_edges(case, face)) == 4]
    if len(ambiguous) != 1 or len(patches(case)) != 1 or len(patches(case, opposite=ambiguous[0])) != 2:
        return None
    axis, side = ambiguous[0]
    x, y, z = ((2 * side - 1) * (axis == a) for a in range(3))
    return x, y, z


def edge_at(corner: int, axis: int) -> int:
    """Number of the edge that leaves ``corner`` along ``axis``; the corner is the low end."""
    ends = {corner, corner + (1 << axis)}
    return next(edge for edge, pair in enumerate(EDGES) if set(pair) == ends)


def _is_crossing(case: int, edge: int) -> bool:
    first, second = EDGES[edge]
    return (case >> first ^ case >> second) & 1 == 1


def _on_face(corner: int, face: Face) -> bool:
    return CORNERS[corner][face[0]] == face[1]


def _crossing_edges(case: int, face: Face) -> list[int]:
    on_face = (edge for edge, (p, q) in enumerate(EDGES) if _on_face(p, face) and _on_face(q, face))
    return [edge for edge in on_face if _is_crossing(case, edge)]


def _joined_edges(case: int, face: Face, *, cut_off_inside: bool) -> list[list[int]]:
    """Pairs of crossing edges that a curve on the face joins."""
    crossing = _crossing_edges(case, face)
    if len(crossing) < 4:
        return [crossing] if crossing else []
    alone = [c for c in range(8) if _on_face(c, face) and (case >> c & 1 == 1) == cut_off_inside]
    return [[edge for edge in crossing if corner in EDGES[edge]] for corner in alone]


@dataclass(frozen=True)
class CaseTables:
    """The tables as tensors; the patches of all cases are numbered through.

    Attributes:
        edge_ends: corner numbers of the first and second end of every edge.
        num_patches: patches per case.
        first_patch: number of the first patch of a case.
        patch_of_edge: which patch of its case an edge belongs to, from 0; -1 if it does not cross.
        patch_size: edges per patch.
        patch_edges: edges of a patch, ascending, padded with 0.
        needs_repair: cases with a ``repair_direction``.
        direction: that direction; zero elsewhere.
    """

    edge_ends: Int[Tensor, "12 2"]
    num_patches: Int[Tensor, "256"]
    first_patch: Int[Tensor, "256"]
    patch_of_edge: Int[Tensor, "256 12"]
    patch_size: Int[Tensor, "P"]
    patch_edges: Int[Tensor, "P 7"]
    needs_repair: Bool[Tensor, "256"]
    direction: Int[Tensor, "256 3"]


@functools.cache
def case_tables(device: torch.device) -> CaseTables:
    """The tables on a device, made once."""
    by_case = [patches(case) for case in range(256)]
    flat = [patch for case_patches in by_case for patch in case_patches]
    directions = [repair_direction(case) for case in range(256)]
    patch_of_edge = [[-1] * 12 for _ in range(256)]
    for case, case_patches in enumerate(by_case):
        for number, patch in enumerate(case_patches):
            for edge in patch:
                patch_of_edge[case][edge] = number

    with torch.inference_mode(False):  # kept tensors must also serve a later call that records gradients
        num_patches = torch.tensor([len(case_patches) for case_patches in by_case], device=device)
        return CaseTables(
            edge_ends=torch.tensor(EDGES, device=device),
            num_patches=num_patches,
            first_patch=num_patches.cumsum(0) - num_patches,
            patch_of_edge=torch.tensor(patch_of_edge, device=device),
            patch_size=torch.tensor([len(patch) for patch in flat], device=device),
            patch_edges=torch.tensor([[*p, *[0] * (MAX_PATCH_SIZE - len(p))] for p in flat], device=device),
            needs_repair=torch.tensor([direction is not None for direction in directions], device=device),
            direction=torch.tensor([direction or (0, 0, 0) for direction in directions], device=device),
        )
