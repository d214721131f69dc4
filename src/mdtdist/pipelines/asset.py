"""One generated 3D asset and what is known about its making."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.representations import Gaussians, Mesh

FORMATS = ("glb", "ply", "mp4", "gif", "png")


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A generated asset.

    Attributes:
        gaussians: the generated Gaussians, object space.
        logits: structure logits; occupied where above 0. Voxel (i, j, k) has its centre at ((i, j, k) + 0.5) / R - 0.5.
        image: the crop that the encoder saw, premultiplied RGBA in [0, 1].
        timings: seconds per stage: conditioning, structure, structure_decode, latent, gaussians; of the whole batch
            where several images were generated at once. The mesh and every saved file add theirs when they are made.
        nfe: network evaluations per flow, guidance included: structure, latent.
        steps: sampler steps (structure, latent).
        seed: seed of both noises.
        model: name or path of the model.
        flows: "student" or "teacher".
        batch_size: images that were generated together.
    """

    gaussians: Gaussians
    logits: Float[Tensor, "R R R"]
    image: Float[Tensor, "4 S S"]
    timings: dict[str, float]
    nfe: dict[str, int]
    steps: tuple[int, int]
    seed: int
    model: str
    flows: str
    batch_size: int = 1

    @cached_property
    def mesh(self) -> Mesh:
        """The textured surface; extracted and baked when first asked for (some seconds)."""
        from mdtdist.export import extract_mesh

        start = time.perf_counter()
        mesh = extract_mesh(self.logits, self.gaussians)
        self.timings["mesh"] = time.perf_counter() - start
        return mesh

    @property
    def num_voxels(self) -> int:
        """Occupied voxels of the structure."""
        return int((self.logits > 0).sum())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the asset in the format of the suffix; the file appears whole.

        ``.glb`` textured mesh, ``.ply`` Gaussian splats, ``.mp4`` and ``.gif`` turntable, ``.png`` preview.

        Raises:
            InputError: for another suffix, or a place that cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower().lstrip(".")
        writer = _writers().get(suffix)
        if writer is None:
            raise InputError(f"cannot save {str(path)!r}: unknown format {suffix!r}; expected {', '.join(FORMATS)}")
        subject = self.mesh if suffix == "glb" else self.gaussians
        start = time.perf_counter()
        writer(subject, path)
        self.timings[f"save_{suffix}"] = time.perf_counter() - start
        return path

    def metadata(self) -> dict[str, Any]:
        """What a reader needs to make the asset again, as plain data."""
        return {
            "model": self.model,
            "flows": self.flows,
            "steps": {"structure": self.steps[0], "latent": self.steps[1]},
            "nfe": dict(self.nfe),
            "seed": self.seed,
            "seconds": {stage: round(seconds, 4) for stage, seconds in self.timings.items()},
            "batch_size": self.batch_size,
            "num_voxels": self.num_voxels,
            "num_gaussians": len(self.gaussians),
            "versions": {
                "mdtdist": metadata.version("mdtdist"),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }


def _writers() -> dict[str, Callable[[Any, Path], None]]:
    from mdtdist.export import write_glb, write_ply, write_preview, write_turntable

    return {
        "glb": write_glb,
        "ply": write_ply,
        "mp4": write_turntable,
        "gif": write_turntable,
        "png": write_preview,
    }
