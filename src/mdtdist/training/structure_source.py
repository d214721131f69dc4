"""Voxels for the latent stage that a structure flow makes from an image, kept so that each is made once."""

import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mdtdist.data.files import write_npz
from mdtdist.errors import InputError
from mdtdist.pipelines.config import STRUCTURE_DECODER, Flows, flow_role
from mdtdist.pipelines.image_to_3d import ImageTo3D
from mdtdist.training.digests import digest, module_digest
from mdtdist.training.view_conditions import Conditions

log = logging.getLogger(__name__)

ATTEMPTS = 4  # noises that are tried before an image is refused


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """One structure: of row ``index`` of the conditions, from the noise of ``seed``."""

    index: int
    key: str
    seed: str


class StructureSource:
    """Samples of a structure flow, decoded to voxels: a function of condition, variant and networks.

    That is up to rounding, which differs with the size of a batch; the first result is the one that is kept.

    Args:
        model: whose flow and structure decoder are used.
        flows: "student" or "teacher" of the model.
        steps, guidance: of the sampler; None for those of the model.
        max_voxels: a sample with more is drawn again.
        cache: folder with the structures of earlier runs; None keeps them in memory.
    """

    def __init__(
        self,
        model: ImageTo3D,
        *,
        flows: Flows,
        steps: int | None,
        guidance: float | None,
        max_voxels: int,
        cache: Path | None,
    ) -> None:
        self.model, self.flows, self.max_voxels = model, flows, max_voxels
        self.options = {"steps": steps, "cfg_strength": guidance}
        self.cache = cache
        self._memory: dict[str, Tensor] = {}
        role = flow_role("structure", flows)
        sampler = model.config.samplers[flows, "structure"].sampler(steps=steps, cfg_strength=guidance)
        weights = [module_digest(model.network(name)) for name in (role, STRUCTURE_DECODER)]
        self._setup = digest(*weights, repr(sampler), str(model.config.time_scale), str(max_voxels))

    @torch.no_grad()
    def voxels(self, cond: Conditions, variants: Sequence[int], names: Sequence[str]) -> list[Int[Tensor, "_ 3"]]:
        """Voxels of each condition; ``variants`` number the noises, ``names`` are for messages.

        Raises:
            InputError: if several noises in a row give no voxel, or too many.
        """
        seeds = [digest(key, str(variant)) for key, variant in zip(cond.keys, variants, strict=True)]
        wanted = [
            _Wanted(index=i, key=digest(self._setup, cond.keys[i], seed), seed=seed) for i, seed in enumerate(seeds)
        ]
        missing = [item for item in wanted if self._find(item.key) is None]
        counts: dict[int, int] = {}
        for attempt in range(ATTEMPTS):
            if missing:
                counts = self._make(missing, cond, attempt)
                missing = [item for item in missing if item.index in counts]
        if missing:
            item = missing[0]
            raise InputError(
                f"the structure flow makes {counts[item.index]} voxels of the image {names[item.index]}, from "
                f"{ATTEMPTS} noises in a row; expected 1 to max_voxels = {self.max_voxels}: remove the image, take "
                "more structure_steps, or raise max_voxels"
            )
        found = [self._find(item.key) for item in wanted]
        assert all(voxels is not None for voxels in found)
        return [voxels.int() for voxels in found if voxels is not None]

    def _make(self, wanted: Sequence[_Wanted], cond: Conditions, attempt: int) -> dict[int, int]:
        """Sample, keep what is usable, and say how many voxels the others have."""
        generators = [torch.Generator().manual_seed(int(digest(item.seed, str(attempt))[:15], 16)) for item in wanted]
        noise = self.model.structure_noise(generators)
        tokens = cond.tokens[[item.index for item in wanted]]
        with torch.autocast(self.model.device.type, enabled=False):
            sampled = self.model.sample_structure(tokens, noise, flows=self.flows, **self.options)
            occupied = (self.model.decode_structure(sampled.x) > 0).cpu()
        refused = {}
        for item, grid in zip(wanted, occupied, strict=True):
            voxels = torch.argwhere(grid)
            if 1 <= len(voxels) <= self.max_voxels:
                self._keep(item.key, voxels)
            else:
                refused[item.index] = len(voxels)
        return refused

    def _path(self, key: str) -> Path:
        assert self.cache is not None
        return self.cache / "structures" / f"{key}.npz"

    def _keep(self, key: str, voxels: Int[Tensor, "_ 3"]) -> None:
        voxels = voxels.to(torch.uint8 if self.model.resolution <= 256 else torch.int16)
        if self.cache is None:
            self._memory[key] = voxels
        else:
            write_npz(self._path(key), coords=voxels.numpy())

    def _find(self, key: str) -> Tensor | None:
        if self.cache is None:
            return self._memory.get(key)
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            with np.load(path) as arrays:
                return torch.from_numpy(arrays["coords"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as err:
            log.warning("%s is damaged (%s) and made again", path, err)
            return None
