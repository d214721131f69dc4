"""Gaussian-splat PLY files with the field names of 3D Gaussian splatting (Kerbl et al., 2023)."""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.files import appear_whole
from mdtdist.representations import Gaussians

_FIELDS = [
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
    "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
]  # fmt: skip
_MIN_OPACITY, _MIN_SCALE = 1e-6, 1e-9  # the file stores logits and logarithms, which must stay finite
_FILE_ROTATION = (math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0)  # wxyz: 90 degrees about x, (x, y, z) -> (x, -z, y)
_PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "<i2", "ushort": "<u2", "int": "<i4", "uint": "<u4", "float": "<f4",
    "double": "<f8", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4", "uint32": "<u4",
    "float32": "<f4", "float64": "<f8",
}  # fmt: skip


def write_ply(gaussians: Gaussians, path: str | Path) -> None:
    """Write Gaussians as a binary splat PLY: logit opacity, log scale, rotation wxyz, zero normals.

    Object space becomes file space by (x, y, z) -> (x, -z, y), as in TRELLIS: photographs, which splats are usually
    trained on, have y pointing down, and so has the file. With the GLB at (x, z, -y) the PLY is the GLB turned by 180
    degrees about x, which is the turn that splat viewers undo.

    Args:
        gaussians: on any device.
        path: file to write; it appears whole or not at all.

    Raises:
        InputError: if the file cannot be written.
    """
    g = gaussians.to("cpu")
    opacities = g.opacities.detach().double().clamp(_MIN_OPACITY, 1 - _MIN_OPACITY)
    columns = [
        _to_file_axes(g.means),
        torch.zeros_like(g.means),
        g.sh[:, 0],
        torch.logit(opacities)[:, None],
        g.scales.clamp_min(_MIN_SCALE).log(),
        _quaternion_product(g.means.new_tensor(_FILE_ROTATION), _unit(g.rotations)),
    ]
    rows = torch.cat([column.detach().float() for column in columns], dim=1).numpy()
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [f"property float {name}" for name in _FIELDS] + ["end_header\n"]
    with appear_whole(path) as temporary:
        temporary.write_bytes("\n".join(header).encode("ascii") + rows.astype("<f4").tobytes())


def read_ply(path: str | Path) -> Gaussians:
    """Read a splat PLY as ``write_ply`` writes it; further fields (higher spherical harmonics) are left out.

    Returns:
        Gaussians in object space, float32; rotations are normalised.

    Raises:
        InputError: if the file cannot be read, is no binary little-endian PLY, is cut short or lacks a field.
    """
    table = _read_vertices(Path(path))
    missing = [name for name in _FIELDS if name not in (table.dtype.names or ()) and name not in ("nx", "ny", "nz")]
    if missing:
        raise InputError(f"{path} has no field {', '.join(missing)}; expected a Gaussian-splat PLY")

    def columns(*names: str) -> Float[Tensor, "N C"]:
        return torch.from_numpy(np.stack([table[name].astype(np.float32) for name in names], axis=1))

    w, x, y, z = _FILE_ROTATION
    rotations = _unit(columns("rot_0", "rot_1", "rot_2", "rot_3"))
    x_file, y_file, z_file = columns("x", "y", "z").unbind(-1)
    return Gaussians(
        means=torch.stack([x_file, z_file, -y_file], -1),
        scales=columns("scale_0", "scale_1", "scale_2").exp(),
        rotations=_quaternion_product(rotations.new_tensor((w, -x, -y, -z)), rotations),
        opacities=columns("opacity")[:, 0].sigmoid(),
        sh=columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None],
    )


def _to_file_axes(vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """(x, y, z) -> (x, -z, y), the rotation ``_FILE_ROTATION``."""
    x, y, z = vectors.unbind(-1)
    return torch.stack([x, -z, y], -1)


def _unit(quaternions: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    return torch.nn.functional.normalize(quaternions, dim=-1)


def _quaternion_product(left: Float[Tensor, "4"], right: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """Hamilton product, wxyz: first ``right``, then ``left``."""
    a, b, c, d = left
    w, x, y, z = right.unbind(-1)
    return torch.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        dim=-1,
    )


def _read_vertices(path: Path) -> np.ndarray:
    """The vertex element as a structured array."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); expected a splat PLY file") from error
    head, mark, body = content.partition(b"end_header\n")
    lines = [line.split() for line in head.decode("ascii", errors="replace").splitlines()]
    if not mark or lines[:1] != [["ply"]] or ["format", "binary_little_endian", "1.0"] not in lines:
        raise InputError(f"{path} is not a binary little-endian PLY file; expected one, so export it again")
    elements = [line for line in lines if line[:1] == ["element"]]
    properties = [line for line in lines if line[:1] == ["property"]]
    if len(elements) != 1 or elements[0][1] != "vertex" or any(line[1] not in _PLY_TYPES for line in properties):
        raise InputError(f"{path} has elements other than vertices; expected a Gaussian-splat PLY")
    record = np.dtype([(name, _PLY_TYPES[kind]) for _, kind, name in properties])
    count = int(elements[0][2])
    if len(body) < count * record.itemsize:
        raise InputError(f"{path} is cut short: {len(body)} of {count * record.itemsize} bytes; copy it again")
    return np.frombuffer(body, record, count)
