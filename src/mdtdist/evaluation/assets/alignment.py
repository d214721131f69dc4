"""From the axes of a file to object space (Z up, front -Y, unit cube): what was assumed, and a sentence that says so.

Which way is up is a property of a system, not of an object. So it comes from the format, from the user, or is found
for the whole set of outputs at once; a choice per object would hide that a system does not know its front.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from mdtdist.errors import InputError
from mdtdist.representations import Gaussians
from mdtdist.representations.triangles import TexturedTriangles

How = Literal["given", "from the format", "detected"]
Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

# Which axis the front of an object faces if only the upward one is known: as glTF for y, as TRELLIS's splats for -y.
_USUAL_FRONT = {"+x": "-y", "-x": "-y", "+y": "+z", "-y": "-z", "+z": "-y", "-z": "-y"}
# Upward axis and front of what systems write, where their code says it.
EXPORTERS = {
    "trellis": ("-y", "-z"),  # splat PLY: (x, y, z) -> (x, -z, y)
    "lgm": ("+y", "+z"),  # splat PLY in the axes of its cameras, the first of which stands at +z
    "gltf": ("+y", "+z"),  # what the format demands
}
_POINTS, _OBJECTS = 1500, 64  # that a rotation is chosen by


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """A similarity from file to object space: ``scale * (rotation @ point) + offset``.

    Attributes:
        rotation: proper, rows first.
        scale: object units per unit of the file.
        offset: object units.
        how: where the rotation comes from.
        sentence: the same for all files that were treated the same way.
    """

    rotation: Matrix
    scale: float
    offset: tuple[float, float, float]
    how: How
    sentence: str

    @property
    def up(self) -> str:
        """The axis of the file that points up, such as "+y"."""
        return _axis_name(np.array(self.rotation)[2])

    @property
    def front(self) -> str:
        """The axis of the file that the front faces."""
        return _axis_name(-np.array(self.rotation)[1])

    def record(self) -> dict[str, Any]:
        """For a JSON record."""
        fields = {name: value for name, value in vars(self).items() if name != "rotation"}
        return {"up": self.up, "front": self.front, "rotation": [list(row) for row in self.rotation], **fields}


def axes_rotation(up: str, front: str) -> Float[np.ndarray, "3 3"]:
    """The rotation that turns two axes of a file to Z and to -Y.

    Raises:
        InputError: if they are not perpendicular.
    """
    z, y = _axis(up), -_axis(front)
    if z @ y:
        raise InputError(f"up is {up} and the front faces {front}; expected perpendicular axes, such as +y and +z")
    return np.stack([np.cross(y, z), y, z])


def parse_up(text: str) -> tuple[str, str]:
    """Upward axis and front of ``"y"``, ``"-y"``, ``"+z"`` (with its usual front), ``"y:+x"``, or an exporter's name.

    Raises:
        InputError: for anything else.
    """
    if text in EXPORTERS:
        return EXPORTERS[text]
    up, _, front = text.partition(":")
    up = up if up[:1] in "+-" else f"+{up}"
    if up not in _USUAL_FRONT:
        raise InputError(
            f"up is {text!r}; expected auto, an axis such as y, -y or z, an axis with a front such as y:+x, or one of "
            f"{', '.join(EXPORTERS)}"
        )
    front = front or _USUAL_FRONT[up]
    return up, front if front[:1] in "+-" else f"+{front}"


def fit_cube(low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]) -> tuple[float, Float[np.ndarray, "3"]]:
    """Scale and offset that centre a box and make its longest side 1.

    Raises:
        InputError: if the box is a point or has no finite size.
    """
    with np.errstate(over="ignore"):
        side = float((high - low).max())
    if not 0 < side < np.inf:
        raise InputError(f"the longest side of the object is {side:g}; expected a positive number")
    return 1 / side, -(low + high) / (2 * side)


def align_triangles(triangles: TexturedTriangles, alignment: Alignment) -> TexturedTriangles:
    """Triangles of the file in object space."""
    matrix = alignment.scale * np.array(alignment.rotation)
    return replace(triangles, vertices=triangles.vertices @ matrix.T + np.array(alignment.offset))


def align_gaussians(gaussians: Gaussians, alignment: Alignment) -> Gaussians:
    """Gaussians of the file in object space; colours of degree 0 do not turn."""
    rotation = torch.tensor(alignment.rotation, dtype=torch.float64)
    means = alignment.scale * gaussians.means.double() @ rotation.mT + torch.tensor(alignment.offset).double()
    wxyz = gaussians.rotations.double().numpy()
    turned = Rotation.from_matrix(rotation.numpy()) * Rotation.from_quat(wxyz[:, [1, 2, 3, 0]])
    quaternions = torch.from_numpy(turned.as_quat()[:, [3, 0, 1, 2]])
    like = gaussians.means
    return replace(
        gaussians, means=means.to(like), scales=alignment.scale * gaussians.scales, rotations=quaternions.to(like)
    )


@dataclass(frozen=True, kw_only=True)
class RotationChoice:
    """The axis rotation under which a set of outputs fits its references best.

    Attributes:
        rotation: from the object space of the outputs to that of the references; the identity if they agree.
        distances: mean Chamfer distance of each candidate, smallest first, object units.
        num_objects: that it was measured on.
        sentence: for a report.
    """

    rotation: Matrix
    distances: tuple[tuple[Matrix, float], ...]
    num_objects: int
    sentence: str


def axis_rotations(kind: Literal["all", "yaw"] = "all") -> list[Float[np.ndarray, "3 3"]]:
    """The 24 rotations that take axes to axes, or the four of them about Z; the identity is the first."""
    rotations = [
        axes_rotation(up, front)
        for up, front in itertools.product(_USUAL_FRONT, repeat=2)
        if up[1] != front[1] and (kind == "all" or up == "+z")
    ]
    return sorted(rotations, key=lambda rotation: -float(np.trace(rotation)))


def choose_rotation(
    outputs: Sequence[Float[np.ndarray, "_ 3"]],
    references: Sequence[Float[np.ndarray, "_ 3"]],
    *,
    candidates: Literal["all", "yaw"] = "all",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> RotationChoice:
    """The rotation with the least mean Chamfer distance over all objects, one for the system.

    Args:
        outputs: points on the surfaces of one system's outputs in object space, one array per object.
        references: of the true objects, in the same order.
        candidates: all 24 axis rotations, or only those that keep up where it is.
        seed: of the points that are looked at; at most 64 objects are, evenly spread.
        progress: objects done, objects.

    Raises:
        InputError: if there are no objects, or not as many references.
    """
    if not len(outputs) or len(outputs) != len(references):
        raise InputError(
            f"{len(outputs)} outputs and {len(references)} references; expected as many, and at least one of each"
        )
    rotations, generator = axis_rotations(candidates), np.random.default_rng(seed)
    rows = np.unique(np.linspace(0, len(outputs) - 1, min(len(outputs), _OBJECTS)).round().astype(int))
    costs = np.zeros(len(rotations))
    for done, row in enumerate(rows, 1):
        output, reference = (_some(points, generator) for points in (outputs[row], references[row]))
        costs += _chamfer_of_each(output, reference, rotations) / len(rows)
        if progress is not None:
            progress(done, len(rows))
    order = np.argsort(costs, kind="stable")
    ranked = tuple((as_matrix(rotations[i]), float(costs[i])) for i in order)
    return RotationChoice(
        rotation=ranked[0][0], distances=ranked, num_objects=len(rows), sentence=_explain(ranked, len(rows))
    )


def turn(alignment: Alignment, choice: RotationChoice) -> Alignment:
    """The alignment followed by a rotation that was found."""
    rotation = np.array(choice.rotation)
    return replace(
        alignment,
        rotation=as_matrix(rotation @ np.array(alignment.rotation)),
        offset=as_vector(rotation @ np.array(alignment.offset)),
        how="detected",
        sentence=f"{alignment.sentence}; {choice.sentence}",
    )


def _explain(ranked: Sequence[tuple[Matrix, float]], num_objects: int) -> str:
    best, second = ranked[0][1], ranked[1][1]
    kept = "turned no further" if np.trace(np.array(ranked[0][0])) == 3 else "turned to fit the references"
    return (
        f"{kept}: of {len(ranked)} axis rotations, one for the whole system, this has the least mean Chamfer distance "
        f"({best:.4f}, the next {second:.4f}) over {num_objects} objects"
    )


def _chamfer_of_each(
    output: Float[np.ndarray, "N 3"], reference: Float[np.ndarray, "M 3"], rotations: Sequence[np.ndarray]
) -> Float[np.ndarray, "C"]:
    """Turning one set forward or the other backward is the same, so two trees serve all candidates."""
    to_reference, to_output = cKDTree(reference), cKDTree(output)
    return np.array(
        [
            (to_reference.query(output @ turned.T)[0].mean() + to_output.query(reference @ turned)[0].mean()) / 2
            for turned in rotations
        ]
    )


def _some(points: Any, generator: np.random.Generator) -> Float[np.ndarray, "N 3"]:
    points = np.asarray(points, dtype=np.float64)
    return points if len(points) <= _POINTS else points[generator.choice(len(points), _POINTS, replace=False)]


def _axis(name: str) -> Float[np.ndarray, "3"]:
    if name not in _USUAL_FRONT:
        raise InputError(f"{name!r} is no axis; expected one of {', '.join(_USUAL_FRONT)}")
    return (1.0 if name[0] == "+" else -1.0) * np.eye(3)["xyz".index(name[1])]


def _axis_name(direction: Float[np.ndarray, "3"]) -> str:
    """The axis that a unit vector is; its components where it is none."""
    index = int(np.abs(direction).argmax())
    if abs(direction[index]) < 1 - 1e-6:
        return "(" + ", ".join(f"{value:.3f}" for value in direction) + ")"
    return ("+" if direction[index] > 0 else "-") + "xyz"[index]


def as_matrix(values: Float[np.ndarray, "3 3"]) -> Matrix:
    first, second, third = (as_vector(row) for row in values)
    return first, second, third


def as_vector(values: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    x, y, z = (float(value) + 0.0 for value in values)  # -0 + 0 is 0
    return x, y, z
