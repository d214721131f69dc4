"""Wall time of every method, one image at a time, in one process."""

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.evaluation.model_benchmark.benchmark import latent_noise, occupied_or_best, structure_noise
from mdtdist.evaluation.model_benchmark.methods import Method, sample_latent, sample_structure
from mdtdist.evaluation.model_benchmark.test_objects import TestObject
from mdtdist.pipelines import ImageTo3D

STAGES = ("conditioning", "structure", "structure_decode", "latent", "gaussians")
FLOW_STAGES = ("structure", "latent")
# progress(stage, done, total)
Progress = Callable[[str, int, int], None]


def measure_seconds(
    pipe: ImageTo3D,
    objects: Sequence[TestObject],
    methods: Sequence[Method],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Seconds per stage, from the cropped picture to Gaussians.

    Every object goes through all methods in turn, so that a change of the machine's load meets all of them. Before
    the clock starts, each method has run once on the first object.

    Returns:
        Method name -> stage -> seconds, one per object.
    """
    noise = structure_noise(pipe, objects, seed=seed)
    for method in methods:
        _run_once(pipe, objects[0], noise[:1], method, seed)
    seconds: dict[str, dict[str, list[float]]] = {method.name: {stage: [] for stage in STAGES} for method in methods}
    for number, item in enumerate(objects):
        for method in methods:
            for stage, value in _run_once(pipe, item, noise[number : number + 1], method, seed).items():
                seconds[method.name][stage].append(value)
        if progress is not None:
            progress("timing", number + 1, len(objects))
    return seconds


@torch.no_grad()
def _run_once(
    pipe: ImageTo3D, item: TestObject, noise: Float[Tensor, "1 c r r r"], method: Method, seed: int
) -> dict[str, float]:
    """One image through all stages; noise is drawn outside the clock."""
    seconds: dict[str, float] = {}
    with _clock(pipe, seconds, "conditioning"):
        cond = pipe.encode(item.crop[None])
    with _clock(pipe, seconds, "structure"):
        structure = sample_structure(pipe, method, cond, noise)
    with _clock(pipe, seconds, "structure_decode"):
        coords = torch.argwhere(occupied_or_best(pipe.decode_structure(structure.x))).int()
    start = latent_noise(pipe, [item], coords, seed=seed)
    with _clock(pipe, seconds, "latent"):
        latent = sample_latent(pipe, method, cond, coords, start)
    with _clock(pipe, seconds, "gaussians"):
        pipe.decode_latent(latent.x, coords)
    return seconds


@contextmanager
def _clock(pipe: ImageTo3D, seconds: dict[str, float], stage: str) -> Iterator[None]:
    if pipe.device.type == "cuda":
        torch.cuda.synchronize(pipe.device)
    start = time.perf_counter()
    yield
    if pipe.device.type == "cuda":
        torch.cuda.synchronize(pipe.device)
    seconds[stage] = time.perf_counter() - start


def describe_machine(device: torch.device) -> str:
    """Processor, cores, threads, versions and load: what a wall time needs beside it."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    parts = [
        f"{_processor_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads{load}",
        f"torch {torch.__version__}",
        f"Python {platform.python_version()}",
        f"{platform.system()} {platform.machine()}",
    ]
    if device.type == "cuda":
        parts.insert(0, torch.cuda.get_device_name(device))
    return "; ".join(parts)


def _processor_name() -> str:
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
