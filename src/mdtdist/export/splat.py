"""``.splat`` files: 32 bytes per Gaussian and no header, the layout of antimatter15's web viewer."""

from pathlib import Path

import numpy as np

from mdtdist.export.axes import to_splat_axes
from mdtdist.files import appear_whole
from mdtdist.representations import Gaussians

RECORD = np.dtype(
    [("position", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("rotation", "u1", 4)]
)  # scale: standard deviations; color: sRGB and opacity; rotation: wxyz, byte = 128 + 128 q


def write_splat(gaussians: Gaussians, path: str | Path) -> None:
    """Write Gaussians for web viewers; axes are those of the splat PLY, see ``to_splat_axes``.

    Viewers show the file while it loads, so the Gaussians come in falling order of volume times opacity, as in the
    viewer's own converter. Colours, opacities and rotations have 8 bits.

    Args:
        gaussians: on any device.
        path: file to write; it appears whole or not at all.

    Raises:
        InputError: if the file cannot be written.
    """
    with appear_whole(path) as temporary:
        temporary.write_bytes(encode_splat(gaussians).tobytes())


def encode_splat(gaussians: Gaussians) -> np.ndarray:
    """The records of the file, of dtype ``RECORD``; see ``write_splat``."""
    g = gaussians.to("cpu")
    means, rotations = (value.detach().float().numpy() for value in to_splat_axes(g.means, g.rotations))
    scales, opacities = g.scales.detach().float().numpy(), g.opacities.detach().float().numpy()
    records = np.empty(len(g), RECORD)
    records["position"], records["scale"] = means, scales
    rgba = np.concatenate([g.colors.detach().float().numpy(), opacities[:, None]], axis=1)
    records["color"] = np.rint(255 * rgba.clip(0, 1))
    records["rotation"] = _quaternion_bytes(rotations)
    return records[np.argsort(-scales.prod(1) * opacities, kind="stable")]


def _quaternion_bytes(rotations: np.ndarray) -> np.ndarray:
    """128 + 128 q. A byte holds -1 but not +1, so of q and -q the one whose largest entry is negative is taken."""
    largest = np.take_along_axis(rotations, np.abs(rotations).argmax(1, keepdims=True), 1)
    return np.rint(128 + 128 * np.where(largest > 0, -rotations, rotations)).clip(0, 255)
