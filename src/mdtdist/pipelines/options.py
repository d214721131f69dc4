"""What a caller of a pipeline can choose, and what is wrong with a choice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.flow import SamplerStep
from mdtdist.pipelines.config import Flows, Stage
from mdtdist.pipelines.structure import MeshSource

# progress(stage, done, total), after every sampler step of a flow.
Progress = Callable[[Stage, int, int], None]
Steps = int | tuple[int, int]
Guidance = float | tuple[float, float]

DECODERS = {"gs": "slat_decoder_gs", "mesh": "slat_decoder_mesh", "rf": "slat_decoder_rf"}
DEFAULT_DECODERS = ("gs", "mesh")


class Options(TypedDict, total=False):
    """What every generating method takes by keyword.

    Attributes:
        steps: Euler steps of both flows, or (structure, latent); without it the numbers of ``pipeline.json``.
        seed: of the noise, or one seed per sample. Every sample has a generator of its own, so in a batch it gets the
            noise that it would get alone.
        flows: "student" or "teacher"; without it the student if there is one.
        cfg_strength: guidance weight added on top of one, or (structure, latent); 0 is off. Without it, or with None,
            that of ``pipeline.json``.
        decoders: what to make, of "gs" (Gaussians), "mesh" and "rf" (radiance field); without it Gaussians and mesh,
            as far as the model has them.
        structure: a mesh, the file of one, or the logits of an asset, whose voxels take the place of the first stage:
            the results are variants of it.
        max_voxels: more active voxels in a sample are an error.
        progress: called after every step.
    """

    steps: Steps | None
    seed: int | Sequence[int]
    flows: Flows | None
    cfg_strength: Guidance | None
    decoders: Sequence[str] | None
    structure: MeshSource | Tensor | None
    max_voxels: int
    progress: Progress | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Checked options of one call; steps and guidance for the structure and the latent flow."""

    steps: tuple[int, int]
    seeds: tuple[int, ...]
    flows: Flows
    guidance: tuple[float | None, float | None]
    decoders: tuple[str, ...]
    logits: Float[Tensor, "R R R"] | None
    max_voxels: int
    progress: Progress | None
    fusion: str | None


def check_steps(steps: Steps) -> tuple[int, int]:
    """Steps of both flows."""
    pair = tuple(steps) if isinstance(steps, (tuple, list)) else (steps, steps)
    if len(pair) != 2 or not all(type(count) is int and count >= 1 for count in pair):
        raise InputError(f"steps is {steps!r}; expected a whole number from 1 up, or two of them")
    return pair[0], pair[1]


def check_seeds(seed: int | Sequence[int], num_samples: int) -> tuple[int, ...]:
    """One seed per sample."""
    seeds = (seed,) * num_samples if isinstance(seed, int) else tuple(seed)
    if len(seeds) != num_samples or not all(type(value) is int and 0 <= value < 2**63 for value in seeds):
        raise InputError(
            f"seed is {seed!r}; expected a whole number from 0 to 2^63 - 1, or one for each of {num_samples} samples"
        )
    return seeds


def check_guidance(strength: Guidance | None) -> tuple[float | None, float | None]:
    """Guidance weights of both flows; None stands for the model's own."""
    pair = tuple(strength) if isinstance(strength, (tuple, list)) else (strength, strength)
    if len(pair) != 2 or not all(w is None or w >= 0 for w in pair):
        raise InputError(f"cfg_strength is {strength!r}; expected a weight from 0 (off) up, or two of them")
    return pair[0], pair[1]


def check_device(device: torch.device | str) -> torch.device:
    """A device that is there."""
    try:
        checked = torch.device(device)
        torch.empty(0, device=checked)
    except (RuntimeError, AssertionError) as err:
        raise InputError(f"the device {str(device)!r} is not available here; try device='cpu'") from err
    return checked


def check_dtype(dtype: torch.dtype) -> torch.dtype:
    """A type that networks can run in."""
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise InputError(f"dtype is {dtype}; expected torch.float32, torch.float16 or torch.bfloat16")
    return dtype


def count_steps(progress: Progress | None, stage: Stage, total: int) -> Callable[[SamplerStep], None] | None:
    """The sampler's callback that counts steps for ``progress``."""
    if progress is None:
        return None
    done = 0

    def callback(_: SamplerStep) -> None:
        nonlocal done
        done += 1
        progress(stage, done, total)

    return callback
