"""One generated 3D asset and what is known about its making."""

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.files import appear_whole
from mdtdist.representations import Gaussians, Mesh, Strivec

if TYPE_CHECKING:
    from mdtdist.export import FinishedMesh

# What each format is made of.
MESH_FORMATS = ("glb", "obj", "usdz")
GAUSSIAN_FORMATS = ("ply", "splat", "mp4", "gif", "png")
FORMATS = (*MESH_FORMATS, *GAUSSIAN_FORMATS, "safetensors")
_MESH_FACES = 4000  # enough for a textured object, and unwrapped in seconds


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A generated asset.

    Attributes:
        representations: what was decoded, object space: "gs" Gaussians, "mesh" the surface of the mesh decoder, "rf" a
            Strivec radiance field.
        logits: structure logits; occupied where above 0. Voxel (i, j, k) has its centre at ((i, j, k) + 0.5) / R - 0.5.
        image: the crop that the encoder saw, premultiplied RGBA in [0, 1]; of several views the first; None for text.
        prompt: the text it was made from; None for images.
        timings: seconds per stage: conditioning, structure, structure_decode (neither on a given structure), latent,
            and per decoder gaussians, surface, radiance_field; of the whole batch where several assets were generated
            at once. The mesh and every saved file add theirs when they are made.
        nfe: network evaluations per flow, guidance included: structure, latent.
        steps: sampler steps (structure, latent).
        seed: seed of the generator of both noises.
        model: name or path of the model.
        flows: "student" or "teacher".
        batch_size: assets that were generated together.
    """

    representations: Mapping[str, Any]
    logits: Float[Tensor, "R R R"]
    timings: dict[str, float]
    nfe: dict[str, int]
    steps: tuple[int, int]
    seed: int
    model: str
    flows: str
    image: Float[Tensor, "4 S S"] | None = None
    prompt: str | None = None
    batch_size: int = 1

    @property
    def gaussians(self) -> Gaussians:
        """The generated Gaussians.

        Raises:
            InputError: if the asset was made without them.
        """
        return self._decoded("gs")

    @property
    def surface(self) -> Mesh:
        """What the mesh decoder made, with all its faces and its vertex colours.

        Raises:
            InputError: if the asset was made without it.
        """
        return self._decoded("mesh")

    @property
    def radiance_field(self) -> Strivec:
        """The generated radiance field.

        Raises:
            InputError: if the asset was made without it.
        """
        return self._decoded("rf")

    def _decoded(self, name: str) -> Any:
        if name not in self.representations:
            there = ",".join(self.representations)
            raise InputError(f"the asset was made with the decoders {there}; add {name!r} to them for this")
        return self.representations[name]

    @cached_property
    def mesh(self) -> Mesh:
        """The finished mesh with the default sizes; made when first asked for (some seconds)."""
        return self.finish_mesh().mesh

    def finish_mesh(self, **options: Any) -> "FinishedMesh":
        """Simplify the surface and give it its colours; from now on :attr:`mesh` is the result.

        The surface is that of the mesh decoder if that was asked for, else marching cubes on the structure. Colours
        come from the Gaussians; without them, from the mesh decoder.

        Args:
            options: of ``mdtdist.export.finish_mesh``: ``faces``, ``texture_size``, ``time_budget``.

        Raises:
            InputError: if the asset has neither surface nor Gaussians, or an option is out of range.
        """
        from mdtdist.export import extract_surface, finish_mesh

        gaussians = self.representations.get("gs")
        if "mesh" not in self.representations and gaussians is None:
            raise InputError("a mesh needs the decoder 'mesh' or 'gs'; the asset was made with neither")
        start = time.perf_counter()
        surface = self.representations.get("mesh")
        if surface is None:
            faces = options.get("faces", _MESH_FACES)
            surface = extract_surface(self.logits, target_faces=sys.maxsize if faces is None else faces)
        finished = finish_mesh(surface, gaussians, **{"faces": _MESH_FACES} | options)
        self.timings["mesh"] = time.perf_counter() - start
        self.__dict__["mesh"] = finished.mesh  # where the cached property looks
        return finished

    @property
    def num_voxels(self) -> int:
        """Occupied voxels of the structure."""
        return int((self.logits > 0).sum())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the asset in the format of the suffix; the file appears whole.

        ``.glb``, ``.obj``, ``.usdz`` mesh; ``.ply``, ``.splat`` Gaussians; ``.mp4``, ``.gif`` turntable; ``.png``
        preview; ``.safetensors`` radiance field.

        Raises:
            InputError: for another suffix, what was not decoded, or a place that cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower().lstrip(".")
        writer = _writers().get(suffix)
        if writer is None:
            raise InputError(f"cannot save {str(path)!r}: unknown format {suffix!r}; expected {', '.join(FORMATS)}")
        subject: Any
        if suffix in MESH_FORMATS:
            subject = self.mesh
        else:
            subject = self.gaussians if suffix in GAUSSIAN_FORMATS else self.radiance_field
        start = time.perf_counter()
        writer(subject, path)
        self.timings[f"save_{suffix}"] = time.perf_counter() - start
        return path

    def metadata(self) -> dict[str, Any]:
        """What a reader needs to make the asset again, as plain data."""
        return {
            "model": self.model,
            **({"prompt": self.prompt} if self.prompt is not None else {}),
            "flows": self.flows,
            "steps": {"structure": self.steps[0], "latent": self.steps[1]},
            "nfe": dict(self.nfe),
            "seed": self.seed,
            "seconds": {stage: round(seconds, 4) for stage, seconds in self.timings.items()},
            "batch_size": self.batch_size,
            "num_voxels": self.num_voxels,
            "decoders": list(self.representations),
            "num_gaussians": len(self.representations.get("gs", ())),
            "versions": {
                "mdtdist": metadata.version("mdtdist"),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }


def _writers() -> dict[str, Callable[[Any, Path], None]]:
    from mdtdist.export import (
        write_glb,
        write_obj,
        write_ply,
        write_preview,
        write_splat,
        write_turntable,
        write_usdz,
    )

    return {
        "glb": write_glb,
        "obj": write_obj,
        "usdz": write_usdz,
        "ply": write_ply,
        "splat": write_splat,
        "mp4": write_turntable,
        "gif": write_turntable,
        "png": write_preview,
        "safetensors": _write_field,
    }


def _write_field(field: Strivec, path: Path) -> None:
    """The tensors of a radiance field under the names of its attributes, the resolution as metadata."""
    tensors = {name: getattr(field, name).contiguous() for name in ("coords", "trivec", "density", "features_dc")}
    with appear_whole(path) as partial:
        save_file(tensors, partial, metadata={"resolution": str(field.resolution)})
