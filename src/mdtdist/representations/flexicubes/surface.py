"""FlexiCubes: the dual surface of a signed field on cubes, with learned weights, differentiable.

Implements the extraction of Shen et al., "Flexible Isosurface Extraction for Gradient-Based Mesh Optimization" (2023),
in the variant of the TRELLIS mesh decoder: no QEF solve, attributes interpolated like positions.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdtdist.representations.flexicubes.pages import PointRows
from mdtdist.representations.flexicubes.tables import MAX_PATCH_SIZE, CaseTables, case_tables, edge_at

NUM_WEIGHTS = 21  # 12 beta per edge, 8 alpha per corner, 1 gamma


@dataclass(frozen=True, kw_only=True)
class CubeField:
    """A signed field on some cubes of a regular grid. Cubes without a surface may be left out.

    Attributes:
        positions: grid vertices, object units.
        sdf: negative inside.
        attributes: raw values per grid vertex, before the sigmoid; None without them.
        coords: integer coordinates of each cube in the grid, each at most once.
        corners: rows of the eight grid vertices of each cube, x fastest.
        weights: raw beta (12, per edge), alpha (8, per corner) and gamma; None sets all activated weights to 1.
    """

    positions: Float[Tensor, "V 3"]
    sdf: Float[Tensor, "V"]
    attributes: Float[Tensor, "V A"] | None = None
    coords: Int[Tensor, "C 3"]
    corners: Int[Tensor, "C 8"]
    weights: Float[Tensor, "C 21"] | None = None

    def select(self, rows: Int[Tensor, "S"]) -> "CubeField":
        """Only some of the cubes; all grid vertices stay."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, coords=self.coords[rows], corners=self.corners[rows], weights=weights)


@dataclass(frozen=True, kw_only=True)
class DualSurface:
    """Triangles, counter-clockwise seen from outside. Open where the surface meets the end of the listed cubes.

    Attributes:
        vertices: object units; one per patch, then in training one per quad.
        faces: vertex indices.
        attributes: in [0, 1]; None without them.
        deviation: per edge of every patch, how far the dual vertex's distance to the crossing of this edge is from its
            mean distance to the crossings of the patch (L_dev); only in training.
    """

    vertices: Float[Tensor, "D 3"]
    faces: Int[Tensor, "F 3"]
    attributes: Float[Tensor, "D A"] | None
    deviation: Float[Tensor, "E"] | None


def extract_dual_surface(field: CubeField, *, training: bool = False) -> DualSurface:
    """Extract the zero level of a field.

    Args:
        field: values on cubes; an edge with a sign change is meshed if its four cubes are listed.
        training: split each quad at a centre vertex, which makes the choice of the diagonal differentiable, and
            compute the deviation term.
    """
    tables = case_tables(field.sdf.device)
    cases = _cases(field)
    on_surface = ((cases > 0) & (cases < 255)).nonzero()[:, 0]
    field, cases = field.select(on_surface), cases[on_surface]
    cases = _repair(cases, field.coords, tables)
    num_patches = tables.num_patches[cases]
    first_vertex = num_patches.cumsum(0) - num_patches

    values = [field.positions] if field.attributes is None else [field.positions, torch.sigmoid(field.attributes)]
    vertices, deviation = _dual_vertices(field, torch.cat(values, dim=1), cases, tables, training=training)
    quads, cubes = _quads(field, cases, first_vertex, tables)
    gamma = _gamma(field)[cubes]
    if training:
        vertices, faces = _split_at_centre(vertices, quads, gamma)
    else:
        faces = _split_at_diagonal(quads, gamma)
    attributes = None if field.attributes is None else vertices[:, 3:]
    return DualSurface(vertices=vertices[:, :3], faces=faces, attributes=attributes, deviation=deviation)


def _cases(field: CubeField) -> Int[Tensor, "C"]:
    powers = 2 ** torch.arange(8, device=field.sdf.device)
    return ((field.sdf < 0)[field.corners] * powers).sum(1)


def _beta(field: CubeField) -> Float[Tensor, "C 12"]:
    if field.weights is None:
        return field.sdf.new_ones(len(field.coords), 12)
    return 1 + 0.99 * torch.tanh(field.weights[:, :12])


def _alpha(field: CubeField) -> Float[Tensor, "C 8"]:
    if field.weights is None:
        return field.sdf.new_ones(len(field.coords), 8)
    return 1 + 0.99 * torch.tanh(field.weights[:, 12:20])


def _gamma(field: CubeField) -> Float[Tensor, "C"]:
    if field.weights is None:
        return field.sdf.new_ones(len(field.coords))
    return 0.99 * torch.sigmoid(field.weights[:, 20]) + 0.005


def _repair(cases: Int[Tensor, "S"], coords: Int[Tensor, "S 3"], tables: CaseTables) -> Int[Tensor, "S"]:
    """Join the other way where two cubes that can clash stand face to face; all cubes decide from ``cases``."""
    suspects = tables.needs_repair[cases].nonzero()[:, 0]
    _, clash = PointRows(coords[suspects]).find(coords[suspects] + tables.direction[cases[suspects]])
    repaired = cases.clone()
    repaired[suspects[clash]] = 255 - cases[suspects[clash]]
    return repaired


def _dual_vertices(
    field: CubeField, values: Float[Tensor, "V A"], cases: Int[Tensor, "S"], tables: CaseTables, *, training: bool
) -> tuple[Float[Tensor, "D A"], Float[Tensor, "E"] | None]:
    """One vertex per patch, cube by cube: the beta-weighted mean of the alpha-weighted crossings of its edges."""
    device = cases.device
    num_patches = tables.num_patches[cases]
    cube_of = torch.repeat_interleave(torch.arange(len(cases), device=device), num_patches)
    shift = tables.first_patch[cases] - (num_patches.cumsum(0) - num_patches)
    patch = torch.arange(len(cube_of), device=device) + shift[cube_of]
    alpha, beta = _alpha(field), _beta(field)

    means, rows, deviations = [], [], []
    for size in range(3, MAX_PATCH_SIZE + 1):
        row = (tables.patch_size[patch] == size).nonzero()[:, 0]
        edges, cubes = tables.patch_edges[patch[row], :size], cube_of[row]
        ends = tables.edge_ends[edges]
        grid_rows = field.corners[cubes[:, None, None], ends]
        sdf = field.sdf[grid_rows]
        crossing = _end_weights(sdf * alpha[cubes[:, None, None], ends])
        share = beta[cubes[:, None], edges]
        share = share / share.sum(1, keepdim=True)
        mean = torch.einsum("des,desa->da", share[..., None] * crossing, values[grid_rows])
        means.append(mean)
        rows.append(row)
        if training:
            deviations.append(_deviation(mean[:, :3], _end_weights(sdf), field.positions[grid_rows]))
    order = torch.cat(rows).argsort()
    return torch.cat(means)[order], torch.cat(deviations) if training else None


def _end_weights(sdf: Float[Tensor, "... 2"]) -> Float[Tensor, "... 2"]:
    """Weights of the two ends of an edge that give its zero crossing, ``(x_p s_q - x_q s_p) / (s_q - s_p)``."""
    first, second = sdf.unbind(-1)
    return torch.stack([second, -first], dim=-1) / (second - first)[..., None]


def _deviation(
    vertex: Float[Tensor, "D 3"], crossing: Float[Tensor, "D e 2"], ends: Float[Tensor, "D e 2 3"]
) -> Float[Tensor, "_"]:
    distance = torch.linalg.vector_norm(torch.einsum("des,desa->dea", crossing, ends) - vertex[:, None], dim=-1)
    return (distance - distance.mean(1, keepdim=True)).abs().flatten()


def _quads(
    field: CubeField, cases: Int[Tensor, "S"], first_vertex: Int[Tensor, "S"], tables: CaseTables
) -> tuple[Int[Tensor, "Q 4"], Int[Tensor, "Q 4"]]:
    """Dual vertices and cubes around every crossing edge with four cubes, counter-clockwise seen from outside."""
    lookup = PointRows(field.coords)
    # Around the low corner of an edge, in ascending (x, y, z) order of the cubes, as steps along the other two axes.
    steps = ((1, 1), (1, 0), (0, 1), (0, 0))
    vertices, cubes = [], []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        around = torch.zeros(4, 3, dtype=torch.long, device=cases.device)
        around[:, others] = torch.tensor(steps, device=cases.device)
        owner = (tables.patch_of_edge[cases, edge_at(0, axis)] >= 0).nonzero()[:, 0]
        rows, there = lookup.find(field.coords[owner][:, None] - around)
        complete = there.all(1)
        rows, owner = rows[complete], owner[complete]
        edges = [edge_at((i << others[0]) + (j << others[1]), axis) for i, j in steps]
        number = tables.patch_of_edge[cases[rows], torch.tensor(edges, device=cases.device)]
        # Which way round 0, 1, 3, 2 goes depends on the handedness of (axis, first other, second other).
        low_is_outside = field.sdf[field.corners[owner, 0]] >= 0
        forward = low_is_outside if axis != 1 else ~low_is_outside
        turn = torch.where(forward[:, None], rows.new_tensor([0, 1, 3, 2]), rows.new_tensor([2, 3, 1, 0]))
        vertices.append((first_vertex[rows] + number).gather(1, turn))
        cubes.append(rows.gather(1, turn))
    return torch.cat(vertices), torch.cat(cubes)


def _split_at_diagonal(quads: Int[Tensor, "Q 4"], gamma: Float[Tensor, "Q 4"]) -> Int[Tensor, "F 3"]:
    """Two triangles per quad, along the diagonal with the larger product of gammas."""
    along_02 = (gamma[:, 0] * gamma[:, 2] > gamma[:, 1] * gamma[:, 3])[:, None]
    corners = torch.where(along_02, quads.new_tensor([0, 1, 2, 0, 2, 3]), quads.new_tensor([0, 1, 3, 3, 1, 2]))
    return quads.gather(1, corners).view(-1, 3)


def _split_at_centre(
    vertices: Float[Tensor, "D A"], quads: Int[Tensor, "Q 4"], gamma: Float[Tensor, "Q 4"]
) -> tuple[Float[Tensor, "D+Q A"], Int[Tensor, "F 3"]]:
    """Four triangles per quad around a new vertex: the mean of the two diagonals' middles, weighted by gammas."""
    weight_02, weight_13 = (gamma[:, 0] * gamma[:, 2])[:, None], (gamma[:, 1] * gamma[:, 3])[:, None]
    p = vertices[quads]
    middle_02, middle_13 = (p[:, 0] + p[:, 2]) / 2, (p[:, 1] + p[:, 3]) / 2
    centres = (weight_02 * middle_02 + weight_13 * middle_13) / (weight_02 + weight_13 + 1e-8)
    number = len(vertices) + torch.arange(len(quads), device=quads.device)
    sides = torch.stack([quads, quads.roll(-1, dims=1), number[:, None].expand(-1, 4)], dim=-1)
    return torch.cat([vertices, centres]), sides.view(-1, 3)
