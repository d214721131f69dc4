"""Seconds and peak memory of every stage at full size, on a fixed set of voxels and with random weights."""

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mdtdist.conditioning.dinov2 import DinoImageEncoder, DinoVisionTransformer
from mdtdist.errors import InputError
from mdtdist.evaluation.model_benchmark.timing import describe_machine
from mdtdist.flow import EulerSampler, Guidance
from mdtdist.models import build, sparse_velocity_field, velocity_field
from mdtdist.nn import set_torso_dtype
from mdtdist.pipelines.options import check_device
from mdtdist.sparse import SparseTensor

PROTOCOL = "latency-v1"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_ALTERNATIVES = ("slat_decoder_mesh", "slat_decoder_rf")
# progress(what, done, total)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class TeacherSampling:
    """How the teacher is sampled; the student takes plain Euler steps."""

    rescale_t: float = 1.0
    cfg_strength: float = 0.0
    cfg_interval: tuple[float, ...] = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    """The model that is timed.

    Attributes:
        name: shown in the results.
        num_voxels: active voxels of the latent stage and its decoders.
        cond_tokens: tokens of the condition.
        models: role of ``pipeline.json`` -> ``{"name": class, "args": {...}}``; decoders may be left out.
        teacher: sampling of guided runs.
        image_encoder: arguments of ``DinoVisionTransformer``; None leaves the stage out.
    """

    name: str
    num_voxels: int
    cond_tokens: int
    models: dict[str, Any]
    teacher: TeacherSampling
    image_encoder: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for role in ("sparse_structure_flow_model", "sparse_structure_decoder", "slat_flow_model"):
            if role not in self.models:
                raise InputError(f"models lacks '{role}'; expected at least both flows and the structure decoder")


@dataclass(frozen=True, kw_only=True)
class LatencyRun:
    """What one pair of step counts cost.

    Attributes:
        steps: of the structure and of the latent flow.
        guided: whether the teacher's guidance was on.
        nfe: network evaluations of the structure and of the latent flow.
        seconds: stage -> one value per repeat.
    """

    steps: tuple[int, int]
    guided: bool
    nfe: tuple[int, int]
    seconds: Mapping[str, Sequence[float]]

    @property
    def name(self) -> str:
        """For example ``25+25 guided``: steps of the structure and of the latent flow."""
        return f"{self.steps[0]}+{self.steps[1]}" + (" guided" if self.guided else "")

    @property
    def total(self) -> float:
        """Median seconds from the image to the Gaussians; the other decoders are alternatives, not part of it."""
        stages = [values for stage, values in self.seconds.items() if stage not in _ALTERNATIVES]
        return median(sum(values) for values in zip(*stages, strict=True))


def shell_voxels(resolution: int, num_voxels: int) -> Int[Tensor, "N 3"]:
    """The ``num_voxels`` voxels nearest to a sphere of 0.42 of the side: a closed surface some voxels thick.

    Raises:
        InputError: if the grid has fewer voxels.
    """
    if not 1 <= num_voxels <= resolution**3:
        raise InputError(
            f"num_voxels is {num_voxels}; expected 1 to {resolution**3}, the voxels of a {resolution}^3 grid"
        )
    axis = (torch.arange(resolution) + 0.5) / resolution - 0.5
    distance = (torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0) - 0.42).abs()
    chosen = torch.zeros(resolution**3, dtype=torch.bool)
    chosen[distance.flatten().argsort(stable=True)[:num_voxels]] = True
    return torch.argwhere(chosen.view(resolution, resolution, resolution)).int()


class LatencyBenchmark:
    """Builds the networks once and times runs on them.

    Args:
        config: the model.
        device: for example "cpu" or "cuda".
        dtype: a key of ``DTYPES``; a 16-bit type is that of the torsos, as in the published checkpoints.

    Raises:
        InputError: for an unknown dtype, or a device that is not there.
    """

    def __init__(self, config: LatencyConfig, *, device: str = "cpu", dtype: str = "fp32") -> None:
        if dtype not in DTYPES:
            raise InputError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
        self.config, self.device, self.dtype = config, check_device(device), DTYPES[dtype]
        self.networks = {role: self._network(entry) for role, entry in config.models.items()}
        self.encoder = self._encoder(config.image_encoder) if config.image_encoder is not None else None
        args = config.models["slat_flow_model"]["args"]
        voxels = shell_voxels(args["resolution"], config.num_voxels)
        self.coords = nn.functional.pad(voxels, (1, 0)).to(self.device)
        self.cond = torch.randn(1, config.cond_tokens, args["cond_channels"], device=self.device)
        if self.device.type == "cuda":  # building in float32 is no part of a run
            torch.cuda.reset_peak_memory_stats(self.device)

    @torch.no_grad()
    def measure(
        self, steps: tuple[int, int], *, guided: bool, repeats: int = 3, progress: Progress | None = None
    ) -> LatencyRun:
        """Time every stage ``repeats`` times, after one call that is not counted unless ``repeats`` is 1."""
        sampler = self._sampler(guided)
        records, nfe = [], (0, 0)
        for number in range(repeats + (repeats > 1)):
            seconds, nfe = self._run_once(sampler(steps[0]), sampler(steps[1]))
            records.append(seconds)
            if progress is not None:
                progress(f"{steps[0]}+{steps[1]}", number + 1, repeats + (repeats > 1))
        counted = records[-repeats:]
        return LatencyRun(
            steps=steps,
            guided=guided,
            nfe=nfe,
            seconds={stage: [record[stage] for record in counted] for stage in counted[0]},
        )

    def peak_memory(self) -> int:
        """Bytes: of the device's allocator on CUDA, else the resident memory of this process since its start."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak

    def describe(self) -> dict[str, Any]:
        """What the seconds need beside them."""
        return {
            "protocol": PROTOCOL,
            "model": self.config.name,
            "weights": "random",
            "num_voxels": self.config.num_voxels,
            "dtype": str(self.dtype).removeprefix("torch."),
            "machine": describe_machine(self.device),
            "parameters": {role: sum(p.numel() for p in net.parameters()) for role, net in self.networks.items()},
        }

    # ----------------------------------------------------------------------------------------------------- inside

    def _network(self, entry: Mapping[str, Any]) -> nn.Module:
        with torch.device(self.device):
            network = build(entry["name"], **{**entry["args"], "use_fp16": False})
        set_torso_dtype(network, self.dtype)
        return network.eval().requires_grad_(False)

    def _encoder(self, args: Mapping[str, Any]) -> DinoImageEncoder:
        with torch.device(self.device):
            trunk = DinoVisionTransformer(**args)
        encoder = DinoImageEncoder(trunk, image_size=args["img_size"]).to(self.device)
        encoder.eval().requires_grad_(False)
        return encoder

    def _sampler(self, guided: bool) -> Callable[[int], EulerSampler]:
        teacher = self.config.teacher
        if not guided:
            return lambda steps: EulerSampler(steps=steps)
        low, high = teacher.cfg_interval
        guidance = Guidance(w=teacher.cfg_strength, interval=(low, high))
        return lambda steps: EulerSampler(steps=steps, rescale_t=teacher.rescale_t, guidance=guidance)

    def _run_once(self, structure: EulerSampler, latent: EulerSampler) -> tuple[dict[str, float], tuple[int, int]]:
        networks: dict[str, nn.Module] = self.networks
        seconds: dict[str, float] = {}
        if self.encoder is not None:
            encoder, size = self.encoder, self.encoder.image_size
            crop = torch.rand(1, 4, size, size, device=self.device)
            _, seconds["conditioning"] = self._clock(lambda: encoder(crop))
        args = self.config.models["sparse_structure_flow_model"]["args"]
        noise = torch.randn(1, args["in_channels"], *[args["resolution"]] * 3, device=self.device)
        flow = networks["sparse_structure_flow_model"]
        negative = torch.zeros_like(self.cond)
        fields = [velocity_field(flow, cond) for cond in (self.cond, negative)]
        first, seconds["structure"] = self._clock(
            lambda: structure.sample(fields[0], noise, num_samples=1, negative=fields[1])
        )
        _, seconds["structure_decode"] = self._clock(lambda: networks["sparse_structure_decoder"](first.x))
        channels = self.config.models["slat_flow_model"]["args"]["in_channels"]
        rows = torch.randn(len(self.coords), channels, device=self.device)
        flow = networks["slat_flow_model"]
        sparse = [sparse_velocity_field(flow, cond, self.coords) for cond in (self.cond, negative)]
        second, seconds["latent"] = self._clock(
            lambda: latent.sample(sparse[0], rows, num_samples=1, negative=sparse[1])
        )
        for role, network in networks.items():
            if role.startswith("slat_decoder"):
                latents = SparseTensor(second.x, self.coords)
                _, seconds[role] = self._clock(lambda network=network, latents=latents: network(latents))
        return seconds, (first.num_evaluations, second.num_evaluations)

    def _clock(self, call: Callable[[], Any]) -> tuple[Any, float]:
        self._wait()
        start = time.perf_counter()
        result = call()
        self._wait()
        return result, time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
