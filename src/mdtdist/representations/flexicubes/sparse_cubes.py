"""From the raw channels of the TRELLIS mesh decoder, one row per active cube, to a mesh."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.representations.flexicubes.pages import PointRows
from mdtdist.representations.flexicubes.surface import NUM_WEIGHTS, CubeField, extract_dual_surface
from mdtdist.representations.flexicubes.tables import CORNERS
from mdtdist.representations.mesh import Mesh

NUM_ATTRIBUTES = 6  # colour and normal
SHAPE_CHANNELS = 8 * (1 + 3) + NUM_WEIGHTS
COLOR_CHANNELS = SHAPE_CHANNELS + 8 * NUM_ATTRIBUTES
_OUTSIDE = 1.0  # sdf of a grid vertex that no active cube touches
_DEVIATION_WEIGHT, _WEIGHT_DECAY = 0.5, 0.2


@dataclass(frozen=True, kw_only=True)
class TrainingTerms:
    """What training adds to the rendering losses.

    Attributes:
        regularizer: disagreement of the cubes about shared grid vertices, L_dev and the size of the raw weights.
        grid_positions: displaced positions of the grid vertices that active cubes touch, object units.
        grid_sdf: signed values there, negative inside.
    """

    regularizer: Float[Tensor, ""]
    grid_positions: Float[Tensor, "G 3"]
    grid_sdf: Float[Tensor, "G"]


@dataclass(frozen=True, kw_only=True)
class ExtractedMesh:
    """Triangles in object space, counter-clockwise seen from outside, with gradients to what they came from.

    Attributes:
        vertices: object units.
        faces: vertex indices; none where there is no surface.
        attributes: per vertex in [0, 1]: sRGB colour, then the three channels of the learned normal; None without.
        training: only from an extraction in training mode.
    """

    vertices: Float[Tensor, "D 3"]
    faces: Int[Tensor, "F 3"]
    attributes: Float[Tensor, "D 6"] | None
    training: TrainingTerms | None = None

    def to_mesh(self) -> Mesh:
        """Positions, faces and vertex colours as plain data, without the vertices that no face uses."""
        used, faces = torch.unique(self.faces, return_inverse=True)
        vertices = self.vertices.detach()[used]
        colors = None if self.attributes is None else self.attributes.detach()[used, :3]
        return Mesh(
            vertices=vertices.double().cpu().numpy(),
            faces=faces.cpu().numpy(),
            vertex_colors=None if colors is None else colors.double().cpu().numpy(),
        )


def mesh_from_cubes(
    raw: Float[Tensor, "N channels"], coords: Int[Tensor, "N 3"], *, resolution: int, training: bool = False
) -> ExtractedMesh:
    """Mesh the field that overlapping cubes describe.

    Every active cube states signed values, displacements and attributes of its own eight corners; a grid vertex takes
    the mean over the active cubes that touch it and is outside if there is none. Time and memory grow with the number
    of cubes, not with the grid.

    Args:
        raw: per cube, corners x fastest: sdf (8), displacement (8 x 3), FlexiCubes weights (21), and with 101 channels
            colour and normal (8 x 6).
        coords: x, y, z of each cube in [0, resolution), each at most once.
        resolution: cubes along a side of the space [-0.5, 0.5]^3.
        training: split quads at their centre and compute the training terms.

    Raises:
        InputError: if the number of channels or a coordinate does not fit.
    """
    _check(raw, coords, resolution)
    predictions = _Predictions.from_raw(raw, resolution)
    sites = _Sites(coords, resolution)
    sdf = sites.mean_at_vertices(predictions.sdf)
    cubes = sites.surface_cubes(sdf)
    vertices, corners = sites.corners(cubes)
    positions = sites.grid.points(vertices)
    incident = sites.incident_cubes(positions)
    surface = extract_dual_surface(
        CubeField(
            positions=displaced_positions(positions, _mean(predictions.displacement, incident), resolution),
            sdf=sdf.index_select(0, vertices),
            attributes=None if predictions.attributes is None else _mean(predictions.attributes, incident),
            coords=cubes,
            corners=corners,
            weights=_rows_or_zero(predictions.weights, *sites.active.find(cubes)),
        ),
        training=training,
    )
    return ExtractedMesh(
        vertices=surface.vertices,
        faces=surface.faces,
        attributes=surface.attributes,
        training=_training_terms(predictions, sites, sdf, surface.deviation) if training else None,
    )


def displaced_positions(
    vertices: Int[Tensor, "V 3"], displacement: Float[Tensor, "V 3"], resolution: int
) -> Float[Tensor, "V 3"]:
    """Grid vertices in object space, moved by less than half a cube."""
    reach = (1 - 1e-8) / (2 * resolution)
    return vertices.to(displacement.dtype) / resolution - 0.5 + reach * torch.tanh(displacement)


@dataclass(frozen=True)
class _Predictions:
    """The channels of every cube, apart."""

    sdf: Float[Tensor, "N 8"]
    displacement: Float[Tensor, "N 8 3"]
    weights: Float[Tensor, "N 21"]
    attributes: Float[Tensor, "N 8 6"] | None

    @classmethod
    def from_raw(cls, raw: Float[Tensor, "N channels"], resolution: int) -> "_Predictions":
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        bias = -1 / resolution  # an untrained decoder starts with all active cubes inside
        attributes = raw[:, SHAPE_CHANNELS:].unflatten(1, (8, -1)) if raw.shape[1] > SHAPE_CHANNELS else None
        return cls(
            sdf=raw[:, :8] + bias,
            displacement=raw[:, 8:32].unflatten(1, (8, 3)),
            weights=raw[:, 32:SHAPE_CHANNELS],
            attributes=attributes,
        )


class _Sites:
    """Which grid vertices and cubes there are, and which touch which.

    Attributes:
        active: rows of the active cubes.
        grid: addresses of vertices and cubes; a cube has the address of its lowest corner.
        touching: field of the number of active cubes at a vertex.
    """

    def __init__(self, coords: Int[Tensor, "N 3"], resolution: int) -> None:
        self.coords, self.resolution = coords.int(), resolution
        self.active = PointRows(self.coords)
        self.grid = self.active.grid
        self.offsets = torch.tensor(CORNERS, dtype=torch.int32, device=coords.device)
        self._addresses = self.grid.addresses(self.coords).long()
        self.touching = self._sum_at_vertices(torch.ones_like(self.coords[:, :1], dtype=torch.uint8).expand(-1, 8))

    def _sum_at_vertices(self, values: Shaped[Tensor, "N 8"]) -> Shaped[Tensor, "size"]:
        """Field of the sum over all active cubes that touch a vertex, along x, then y, then z."""
        fields = [values.new_zeros(self.grid.size).index_copy(0, self._addresses, v) for v in values.unbind(1)]
        for axis in range(3):
            fields = [
                low + self.grid.shifted(high, axis, -1) for low, high in zip(fields[::2], fields[1::2], strict=True)
            ]
        return fields[0]

    def mean_at_vertices(self, sdf: Float[Tensor, "N 8"]) -> Float[Tensor, "size"]:
        """Field of the mean signed value over the active cubes that touch a vertex."""
        return torch.where(self.touching > 0, self._sum_at_vertices(sdf) / self.touching.clamp_min(1), _OUTSIDE)

    @torch.no_grad()
    def surface_cubes(self, sdf: Float[Tensor, "size"]) -> Int[Tensor, "S 3"]:
        """Cubes of the grid, active or not, with corners inside and outside."""
        cases = (sdf < 0).to(torch.uint8)
        for axis in range(3):
            cases = cases | self.grid.shifted(cases, axis, 1) << (1 << axis)
        cubes = self.grid.points(((cases > 0) & (cases < 255)).nonzero()[:, 0])
        return cubes[((cubes >= 0) & (cubes < self.resolution)).all(1)]

    def corners(self, cubes: Int[Tensor, "S 3"]) -> tuple[Int[Tensor, "V"], Int[Tensor, "S 8"]]:
        """Addresses of the corners of some cubes, each once, and the rows of the corners of every cube."""
        addresses = torch.stack([self.grid.addresses(cubes + offset) for offset in self.offsets], dim=1)
        used = torch.zeros(self.grid.size, dtype=torch.bool, device=cubes.device)
        used[addresses.flatten().long()] = True
        row = used.cumsum(0, dtype=torch.int32) - 1
        return used.nonzero()[:, 0], row.index_select(0, addresses.flatten()).view(-1, 8).long()

    def incident_cubes(self, vertices: Int[Tensor, "V 3"]) -> list[tuple[Int[Tensor, "V"], Bool[Tensor, "V"]]]:
        """The cubes that have a vertex as their corner 0 to 7: rows of the active ones, and which are active."""
        return [self.active.find(vertices - offset) for offset in self.offsets]


def _rows_or_zero(
    values: Float[Tensor, "N A"], rows: Int[Tensor, "M"], there: Bool[Tensor, "M"]
) -> Float[Tensor, "M A"]:
    return torch.where(there[:, None], values.index_select(0, rows), 0)


def _mean(
    values: Float[Tensor, "N 8 A"], incident: list[tuple[Int[Tensor, "V"], Bool[Tensor, "V"]]]
) -> Float[Tensor, "V A"]:
    """Mean over the incident cubes of what they say about a vertex; 0 without one."""
    total = values.new_zeros(1, values.shape[2])
    for of_corner, (rows, there) in zip(values.unbind(1), incident, strict=True):
        total = total + _rows_or_zero(of_corner, rows, there)
    count = torch.stack([there for _, there in incident]).sum(0)
    return total / count.clamp_min(1)[:, None]


def _training_terms(
    predictions: _Predictions, sites: _Sites, sdf: Float[Tensor, "size"], deviation: Float[Tensor, "E"] | None
) -> TrainingTerms:
    vertices, corners = sites.corners(sites.coords)
    points = sites.grid.points(vertices)
    incident = sites.incident_cubes(points)
    displacement = _mean(predictions.displacement, incident)
    pairs = [(sdf[vertices][:, None], predictions.sdf[..., None]), (displacement, predictions.displacement)]
    if predictions.attributes is not None:
        pairs.append((_mean(predictions.attributes, incident), predictions.attributes))
    squares = torch.stack([((mean[corners] - prediction) ** 2).sum() for mean, prediction in pairs]).sum()
    regularizer = squares / max(1, sum(prediction.numel() for _, prediction in pairs))
    if deviation is not None and len(deviation):
        regularizer = regularizer + _DEVIATION_WEIGHT * deviation.mean()
    if len(predictions.weights):
        regularizer = regularizer + _WEIGHT_DECAY * predictions.weights[:, : NUM_WEIGHTS - 1].abs().mean()
    return TrainingTerms(
        regularizer=regularizer,
        grid_positions=displaced_positions(points, displacement, sites.resolution),
        grid_sdf=sdf[vertices],
    )


def _check(raw: Float[Tensor, "N channels"], coords: Int[Tensor, "N 3"], resolution: int) -> None:
    if raw.shape[1] not in (SHAPE_CHANNELS, COLOR_CHANNELS):
        raise InputError(
            f"a cube has {raw.shape[1]} channels; expected {SHAPE_CHANNELS}, or {COLOR_CHANNELS} with colours"
        )
    if len(raw) != len(coords):
        raise InputError(f"there are {len(raw)} rows of channels and {len(coords)} of coords; expected the same")
    if len(coords) and not (0 <= int(coords.min()) and int(coords.max()) < resolution):
        low, high = int(coords.min()), int(coords.max())
        raise InputError(f"coords go from {low} to {high}; expected cubes in [0, {resolution})")
