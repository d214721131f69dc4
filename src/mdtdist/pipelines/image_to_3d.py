"""An image to a 3D asset: structure flow, latent flow on its voxels, Gaussians (TRELLIS; Xiang et al., 2024)."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdtdist.conditioning.image import ImageSource, prepare_image
from mdtdist.conditioning.tokens import ImageTokenEncoder
from mdtdist.errors import InputError
from mdtdist.flow import SamplerStep, Trajectory
from mdtdist.models import load, network_args, sparse_velocity_field, velocity_field
from mdtdist.pipelines.asset import Asset
from mdtdist.pipelines.config import FLOW_ROLES, Flows, PipelineConfig, Stage, flow_role
from mdtdist.pipelines.locate import locate_model
from mdtdist.representations import Gaussians
from mdtdist.sparse import SparseTensor

# progress(stage, done, total), after every sampler step of a flow.
Progress = Callable[[Stage, int, int], None]
Steps = int | tuple[int, int]


class EmptyStructureError(RuntimeError):
    """The structure flow produced no occupied voxel."""


@dataclass(kw_only=True)
class _Run:
    """What one call measures."""

    timings: dict[str, float] = field(default_factory=dict)
    nfe: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str, device: torch.device) -> Iterator[None]:
        _synchronize(device)
        start = time.perf_counter()
        yield
        _synchronize(device)
        self.timings[stage] = time.perf_counter() - start


class ImageTo3D:
    """Generates 3D assets from images of single objects.

    Make one with :meth:`from_pretrained`. A call runs every stage; the stages are methods of their own for measuring.

    Attributes:
        config: the content of ``pipeline.json``.
        model_id: the name or path the pipeline was loaded from.
        device: where the networks run.
        dtype: float32, or a 16-bit type in which the networks are autocast.
    """

    def __init__(
        self, folder: Path, *, model_id: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.config = PipelineConfig.read(folder)
        self.model_id = model_id
        self.device, self.dtype = _checked_device(device), _checked_dtype(dtype)
        self._folder = folder
        self._networks: dict[str, nn.Module] = {}
        self.encoder = ImageTokenEncoder.load(folder / self.config.image_cond_model).to(self.device)
        self._mean = torch.tensor(self.config.slat_mean, device=self.device)
        self._std = torch.tensor(self.config.slat_std, device=self.device)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] = "mini",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "ImageTo3D":
        """Load a pipeline. The flows themselves are read when they are first used.

        Args:
            name_or_path: a shipped model (``mini``) or the path of a model folder.
            device: for example "cpu" or "cuda".
            dtype: float32, float16 or bfloat16.

        Raises:
            InputError: if there is no such model, its folder is incomplete, or the device is not there.
        """
        return cls(locate_model(name_or_path), model_id=os.fspath(name_or_path), device=device, dtype=dtype)

    @overload
    def __call__(self, image: ImageSource | Tensor, **options: Any) -> Asset: ...

    @overload
    def __call__(self, image: Sequence[ImageSource | Tensor], **options: Any) -> list[Asset]: ...

    def __call__(
        self,
        image: ImageSource | Tensor | Sequence[ImageSource | Tensor],
        *,
        steps: Steps | None = None,
        seed: int = 0,
        flows: Flows | None = None,
        cfg_strength: float | None = None,
        background: str = "border",
        progress: Progress | None = None,
    ) -> Asset | list[Asset]:
        """Generate an asset per image.

        Args:
            image: a path, encoded bytes, PIL image, or a crop from ``prepare_image``; or a list of them, which is
                generated as one batch. Every image of a batch gets the noise it would get alone.
            steps: Euler steps of both flows, or (structure, latent); None takes the number of ``pipeline.json``.
            seed: seed of the noise.
            flows: "student" or "teacher"; None takes the student if there is one.
            cfg_strength: guidance weight added on top of one; None takes that of ``pipeline.json``.
            background: see ``load_image``.
            progress: called after every step.

        Raises:
            InputError: for a bad image, steps below 1, or flows that the model does not have.
            EmptyStructureError: if no voxel is occupied.
        """
        images: list[Any] = list(image) if isinstance(image, (list, tuple)) else [image]
        if not images:
            raise InputError("the list of images is empty; expected at least one image")
        flows = self.resolve_flows(flows)
        num_steps = self.resolve_steps(steps, flows)
        self.load_flows(flows)
        run = _Run()
        with torch.no_grad(), run.measure("conditioning", self.device):
            crops = torch.stack([_as_crop(item, background) for item in images])
            cond = self.encode(crops)
        logits, gaussians = self._generate(run, cond, num_steps, seed, flows, cfg_strength, progress)
        assets = [
            Asset(
                gaussians=scene.to("cpu"),
                logits=item_logits.cpu(),
                image=crop,
                timings=dict(run.timings),
                nfe=dict(run.nfe),
                steps=num_steps,
                seed=seed,
                model=self.model_id,
                flows=flows,
                batch_size=len(images),
            )
            for scene, item_logits, crop in zip(gaussians, logits, crops, strict=True)
        ]
        return assets if isinstance(image, (list, tuple)) else assets[0]

    def resolve_flows(self, flows: Flows | None) -> Flows:
        """The flows to use; the student by default if the model has one."""
        if flows is None:
            return self.config.flows[0]
        if flows not in self.config.flows:
            there = " and ".join(repr(known) for known in self.config.flows)
            raise InputError(f"the model {self.model_id!r} has no {flows!r} flows; expected {there}")
        return flows

    def resolve_steps(self, steps: Steps | None, flows: Flows) -> tuple[int, int]:
        """Steps of the structure and of the latent flow."""
        if steps is None:
            return self.config.samplers[flows, "structure"].steps, self.config.samplers[flows, "latent"].steps
        pair = tuple(steps) if isinstance(steps, (tuple, list)) else (steps, steps)
        if len(pair) != 2 or not all(isinstance(count, int) and count >= 1 for count in pair):
            raise InputError(f"steps is {steps!r}; expected a whole number from 1 up, or two of them")
        return pair[0], pair[1]

    def load_flows(self, flows: Flows) -> None:
        """Read the networks that these flows need, so that no later stage waits for the disk."""
        for role in ("sparse_structure_decoder", "slat_decoder_gs", *(flow_role(stage, flows) for stage in FLOW_ROLES)):
            self.network(role)

    def network(self, role: str) -> nn.Module:
        """The network of a role in ``pipeline.json``, read once."""
        if role not in self._networks:
            network = load(self._folder / self.config.models[role], device=self.device)
            self._networks[role] = network.requires_grad_(False)
        return self._networks[role]

    # ------------------------------------------------------------------------------------------------ the stages

    def encode(self, crops: Float[Tensor, "B 4 S S"]) -> Float[Tensor, "B L C"]:
        """Condition tokens of crops from ``prepare_image``."""
        return self.encoder(crops.to(self.device))

    def structure_noise(self, generators: Sequence[torch.Generator]) -> Float[Tensor, "B C r r r"]:
        """Noise of the structure flow, drawn on the CPU, one generator per sample."""
        args = network_args(self.network(self._any_flow("structure")))
        shape = (args["in_channels"], *[args["resolution"]] * 3)
        return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.device)

    def latent_noise(self, coords: Int[Tensor, "N 4"], generators: Sequence[torch.Generator]) -> Float[Tensor, "N C"]:
        """Noise of the latent flow, drawn on the CPU, one generator per sample."""
        counts = torch.bincount(coords[:, 0].long(), minlength=len(generators)).tolist()
        rows = [torch.randn(n, len(self._mean), generator=g) for n, g in zip(counts, generators, strict=True)]
        return torch.cat(rows).to(self.device)

    def sample_structure(
        self,
        cond: Float[Tensor, "B L C"],
        noise: Float[Tensor, "B c r r r"],
        *,
        flows: Flows,
        steps: int | None = None,
        cfg_strength: float | None = None,
        callback: Callable[[SamplerStep], None] | None = None,
    ) -> Trajectory:
        """Run the structure flow from noise to a structure latent."""
        field = partial(velocity_field, self.network(flow_role("structure", flows)), time_scale=self.config.time_scale)
        sampler = self.config.samplers[flows, "structure"].sampler(steps=steps, cfg_strength=cfg_strength)
        with self._autocast():
            return sampler.sample(
                field(cond),
                noise,
                num_samples=len(cond),
                negative=field(torch.zeros_like(cond)),
                callback=callback,
            )

    def decode_structure(self, latent: Float[Tensor, "B c r r r"]) -> Float[Tensor, "B R R R"]:
        """Occupancy logits of structure latents."""
        with self._autocast():
            return self.network("sparse_structure_decoder")(latent)[:, 0].float()

    def sample_latent(
        self,
        cond: Float[Tensor, "B L C"],
        coords: Int[Tensor, "N 4"],
        noise: Float[Tensor, "N c"],
        *,
        flows: Flows,
        steps: int | None = None,
        cfg_strength: float | None = None,
        callback: Callable[[SamplerStep], None] | None = None,
    ) -> Trajectory:
        """Run the latent flow on the voxels ``coords``; the result is still normalised."""
        network, time_scale = self.network(flow_role("latent", flows)), self.config.time_scale
        field = partial(sparse_velocity_field, network, coords=coords, time_scale=time_scale)
        sampler = self.config.samplers[flows, "latent"].sampler(steps=steps, cfg_strength=cfg_strength)
        with self._autocast():
            return sampler.sample(
                field(cond),
                noise,
                num_samples=len(cond),
                negative=field(torch.zeros_like(cond)),
                callback=callback,
            )

    def decode_latent(self, feats: Float[Tensor, "N c"], coords: Int[Tensor, "N 4"]) -> list[Gaussians]:
        """Gaussians of normalised structured latents, one set per sample."""
        slat = SparseTensor(feats=feats * self._std + self._mean, coords=coords)
        with self._autocast():
            return self.network("slat_decoder_gs")(slat)

    # ----------------------------------------------------------------------------------------------------- inside

    @torch.no_grad()
    def _generate(
        self,
        run: _Run,
        cond: Tensor,
        steps: tuple[int, int],
        seed: int,
        flows: Flows,
        cfg_strength: float | None,
        progress: Progress | None,
    ) -> tuple[Tensor, list[Gaussians]]:
        """Logits and Gaussians; fills ``run``."""
        generators = [torch.Generator().manual_seed(seed) for _ in cond]
        options: dict[str, Any] = {"flows": flows, "cfg_strength": cfg_strength}
        with run.measure("structure", self.device):
            structure = self.sample_structure(
                cond,
                self.structure_noise(generators),
                steps=steps[0],
                callback=_report(progress, "structure", steps[0]),
                **options,
            )
        with run.measure("structure_decode", self.device):
            logits = self.decode_structure(structure.x)
            coords = occupied(logits)
        with run.measure("latent", self.device):
            latent = self.sample_latent(
                cond,
                coords,
                self.latent_noise(coords, generators),
                steps=steps[1],
                callback=_report(progress, "latent", steps[1]),
                **options,
            )
        with run.measure("gaussians", self.device):
            gaussians = self.decode_latent(latent.x, coords)
        run.nfe.update(structure=structure.num_evaluations, latent=latent.num_evaluations)
        return logits, gaussians

    def _any_flow(self, stage: Stage) -> str:
        return flow_role(stage, self.config.flows[0])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


def occupied(logits: Float[Tensor, "B R R R"]) -> Int[Tensor, "N 4"]:
    """Voxels with a logit above 0 as int32 (batch, x, y, z), in row-major order.

    Raises:
        EmptyStructureError: if a sample has none.
    """
    coords = torch.argwhere(logits > 0).int()
    for index, count in enumerate(torch.bincount(coords[:, 0].long(), minlength=len(logits)).tolist()):
        if count == 0:
            raise EmptyStructureError(
                f"the structure flow produced no voxel for image {index} (largest logit "
                f"{logits[index].max():.2f}); try another seed or more steps"
            )
    return coords


def _report(progress: Progress | None, stage: Stage, total: int) -> Callable[[SamplerStep], None] | None:
    """The sampler's callback that counts steps for ``progress``."""
    if progress is None:
        return None
    done = 0

    def callback(_: SamplerStep) -> None:
        nonlocal done
        done += 1
        progress(stage, done, total)

    return callback


def _as_crop(image: ImageSource | Tensor, background: str) -> Float[Tensor, "4 S S"]:
    return image if isinstance(image, Tensor) else prepare_image(image, background=background)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _checked_device(device: torch.device | str) -> torch.device:
    try:
        checked = torch.device(device)
        torch.empty(0, device=checked)
    except (RuntimeError, AssertionError) as err:
        raise InputError(f"the device {str(device)!r} is not available here; try device='cpu'") from err
    return checked


def _checked_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise InputError(f"dtype is {dtype}; expected torch.float32, torch.float16 or torch.bfloat16")
    return dtype
