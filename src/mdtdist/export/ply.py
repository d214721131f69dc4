"""Gaussian-splat PLY files with the field names of 3D Gaussian splatting (Kerbl et al., 2023)."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.export.axes import from_splat_axes, to_splat_axes
from mdtdist.files import appear_whole
from mdtdist.representations import Gaussians

_MAX_SH_DEGREE = 3  # what splat trainers write and viewers read
_MIN_OPACITY, _MIN_SCALE = 1e-6, 1e-9  # the file stores logits and logarithms, which must stay finite
_PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "<i2", "ushort": "<u2", "int": "<i4", "uint": "<u4", "float": "<f4",
    "double": "<f8", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4", "uint32": "<u4",
    "float32": "<f4", "float64": "<f8",
}  # fmt: skip


def write_ply(gaussians: Gaussians, path: str | Path, *, sh_degree: int = 0) -> None:
    """Write Gaussians as a binary splat PLY: logit opacity, log scale, rotation wxyz, zero normals.

    Axes as ``to_splat_axes`` gives them: y points down.

    Args:
        gaussians: on any device.
        path: file to write; it appears whole or not at all.
        sh_degree: 0 to 3. Our colours have degree 0; the coefficients above are written as zeros, for readers that
            insist on the ``f_rest`` fields (degree 3, 45 of them, is what 3D Gaussian splatting itself writes).

    Raises:
        InputError: for another degree, or if the file cannot be written.
    """
    fields = splat_fields(sh_degree)
    g = gaussians.to("cpu")
    opacities = g.opacities.detach().double().clamp(_MIN_OPACITY, 1 - _MIN_OPACITY)
    means, rotations = to_splat_axes(g.means, g.rotations)
    columns = [
        means,
        torch.zeros_like(means),
        g.sh[:, 0],
        means.new_zeros(len(means), _num_rest(sh_degree)),
        torch.logit(opacities)[:, None],
        g.scales.clamp_min(_MIN_SCALE).log(),
        rotations,
    ]
    rows = torch.cat([column.detach().float() for column in columns], dim=1).numpy()
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [f"property float {name}" for name in fields] + ["end_header\n"]
    with appear_whole(path) as temporary:
        temporary.write_bytes("\n".join(header).encode("ascii") + rows.astype("<f4").tobytes())


def splat_fields(sh_degree: int = 0) -> list[str]:
    """Names of the columns in their order.

    Raises:
        InputError: if the degree is not 0, 1, 2 or 3.
    """
    if sh_degree not in range(_MAX_SH_DEGREE + 1):
        raise InputError(f"sh_degree is {sh_degree}; expected 0, 1, 2 or 3")
    return [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2",
        *(f"f_rest_{number}" for number in range(_num_rest(sh_degree))),
        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip


def read_ply(path: str | Path) -> Gaussians:
    """Read a splat PLY as ``write_ply`` writes it; further fields (higher spherical harmonics) are left out.

    Returns:
        Gaussians in object space, float32; rotations are normalised.

    Raises:
        InputError: if the file cannot be read, is no binary little-endian PLY, is cut short or lacks a field.
    """
    table = _read_vertices(Path(path))
    present = (*(table.dtype.names or ()), "nx", "ny", "nz")
    missing = [name for name in splat_fields() if name not in present]
    if missing:
        raise InputError(f"{path} has no field {', '.join(missing)}; expected a Gaussian-splat PLY")

    def columns(*names: str) -> Float[Tensor, "N C"]:
        return torch.from_numpy(np.stack([table[name].astype(np.float32) for name in names], axis=1))

    means, rotations = from_splat_axes(columns("x", "y", "z"), columns("rot_0", "rot_1", "rot_2", "rot_3"))
    return Gaussians(
        means=means,
        scales=columns("scale_0", "scale_1", "scale_2").exp(),
        rotations=rotations,
        opacities=columns("opacity")[:, 0].sigmoid(),
        sh=columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None],
    )


def _num_rest(sh_degree: int) -> int:
    """Coefficients above degree 0: three colours of (degree + 1)^2 - 1."""
    return 3 * ((sh_degree + 1) ** 2 - 1)


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
