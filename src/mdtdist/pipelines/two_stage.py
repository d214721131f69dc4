"""What the TRELLIS pipelines share: structure flow, latent flow on its voxels, decoders (Xiang et al., 2024)."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.flow import SamplerStep, Trajectory, VelocityField
from mdtdist.models import extra_embeddings, load, sparse_velocity_field, velocity_field
from mdtdist.pipelines.asset import Asset
from mdtdist.pipelines.config import STRUCTURE_DECODER, Flows, PipelineConfig, Stage, flow_role
from mdtdist.pipelines.encoders import EncoderSource, check_kind
from mdtdist.pipelines.locate import resolve_model, resolve_student
from mdtdist.pipelines.options import (
    DECODERS,
    DEFAULT_DECODERS,
    Options,
    Plan,
    Steps,
    check_device,
    check_dtype,
    check_guidance,
    check_seeds,
    check_steps,
    count_steps,
)
from mdtdist.pipelines.structure import MAX_VOXELS, given_logits, occupied
from mdtdist.pipelines.students import with_students
from mdtdist.pipelines.views import FUSIONS, evaluations
from mdtdist.sparse import SparseTensor

_DECODER_STAGES = {"gs": "gaussians", "mesh": "surface", "rf": "radiance_field"}
_ENCODER = "encoder"


@dataclass(kw_only=True)
class _Run:
    """What one call measures."""

    timings: dict[str, float] = field(default_factory=dict)
    nfe: dict[str, int] = field(default_factory=lambda: {"structure": 0, "latent": 0})


class TwoStagePipeline(ABC):
    """Condition tokens to assets.

    A call runs every stage; the stages are methods of their own for measuring.

    Attributes:
        config: the content of ``pipeline.json``.
        model_id: the name or path the pipeline was loaded from.
        device: where the networks run.
        dtype: of the torso of the networks; their heads and norms, and the encoder, are float32.
        low_memory: whether at most one network is in memory at a time, read again for every call.
    """

    _kind: ClassVar[str]  # "image" or "text": what the models for this pipeline are conditioned on

    def __init__(
        self,
        config: PipelineConfig,
        *,
        model_id: str,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        low_memory: bool = False,
        offline: bool = False,
    ) -> None:
        self.config, self.model_id, self.low_memory = config, model_id, low_memory
        check_kind(config, self._kind, model_id=model_id)
        self.device, self.dtype = check_device(device), check_dtype(dtype)
        self.encoder_source = self._find_encoder(offline=offline)
        self._networks: dict[str, nn.Module] = {}
        self._mean = torch.tensor(config.slat_mean, device=self.device)
        self._std = torch.tensor(config.slat_std, device=self.device)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] = "mini",
        *,
        student: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        low_memory: bool = False,
        revision: str | None = None,
        offline: bool = False,
    ) -> Self:
        """Load a pipeline. The networks are read when they are first used.

        Args:
            name_or_path: a shipped model (``mini``), the path of a model folder, or a hub id.
            student: student flows from elsewhere, see ``resolve_student``; several where each has one stage.
            device: for example "cpu" or "cuda".
            dtype: float32, float16 or bfloat16.
            low_memory: load the network of a stage when it begins and free it when it ends.
            revision: commit, tag or branch on the hub.
            offline: take what is on the hub from the local cache only.

        Raises:
            InputError: if there is no such model, its folder is incomplete, or the device is not there.
        """
        config = PipelineConfig.read(resolve_model(name_or_path, revision=revision, offline=offline))
        if students := [student] if isinstance(student, str | os.PathLike) else list(student):
            config = with_students(config, [resolve_student(name, offline=offline) for name in students])
        options: dict[str, Any] = {"device": device, "dtype": dtype, "low_memory": low_memory, "offline": offline}
        return cls(config, model_id=os.fspath(name_or_path), **options)

    # ----------------------------------------------------------------------------------------------------- options

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
        return check_steps(steps)

    def resolve_decoders(self, decoders: Sequence[str] | None) -> tuple[str, ...]:
        """The decoders to use, of ``DECODERS``; by default those the model says, else Gaussians and mesh."""
        there = [name for name, role in DECODERS.items() if role in self.config.models]
        if decoders is None and self.config.default_decoders:
            return self.config.default_decoders
        if decoders is None:
            return tuple(name for name in there if name in DEFAULT_DECODERS) or (there[0],)
        wanted = [decoders] if isinstance(decoders, str) else list(dict.fromkeys(decoders))
        if not wanted or (missing := [name for name in wanted if name not in there]):
            what = f"no {missing[0]!r} decoder" if wanted else "been asked for no decoder"
            raise InputError(f"the model {self.model_id!r} has {what}; expected {', '.join(map(repr, there))}")
        return tuple(wanted)

    def _plan(self, options: Options, *, num_samples: int, fusion: str | None = None) -> Plan:
        """Check everything that can be wrong before anything is computed."""
        if unknown := options.keys() - Options.__annotations__.keys():
            raise TypeError(
                f"unknown option {sorted(unknown)[0]!r}; expected one of {', '.join(Options.__annotations__)}"
            )
        flows = self.resolve_flows(options.get("flows"))
        max_voxels, structure = options.get("max_voxels", MAX_VOXELS), options.get("structure")
        if max_voxels < 1:
            raise InputError(f"max_voxels is {max_voxels}; expected a whole number from 1 up")
        return Plan(
            steps=self.resolve_steps(options.get("steps"), flows),
            seeds=check_seeds(options.get("seed", 0), num_samples),
            flows=flows,
            guidance=check_guidance(options.get("cfg_strength")),
            decoders=self.resolve_decoders(options.get("decoders")),
            logits=None if structure is None else given_logits(structure, resolution=self.resolution),
            max_voxels=max_voxels,
            progress=options.get("progress"),
            fusion=fusion,
        )

    # ---------------------------------------------------------------------------------------------------- networks

    @property
    def encoder(self) -> nn.Module:
        """The network that makes condition tokens."""
        return self.network(_ENCODER)

    @property
    def resolution(self) -> int:
        """Voxels a side of the structure."""
        return int(self.config.files(self.config.decoders[0]).read_config()["args"]["resolution"])

    def network(self, role: str) -> nn.Module:
        """The network of a role in ``pipeline.json``, read when it is not in memory."""
        if role not in self._networks:
            if role == _ENCODER:
                network = self.encoder_source.load(self.device)
            else:
                network = load(self.config.files(role), device=self.device, torso_dtype=self.dtype)
            self._networks[role] = network.eval().requires_grad_(False)
        return self._networks[role]

    def load_flows(self, flows: Flows, decoders: Sequence[str] | None = None) -> None:
        """Read the networks that a call needs, so that no later stage waits for the disk; not with ``low_memory``."""
        if not self.low_memory:
            for role in (_ENCODER, *self._roles(flows, self.resolve_decoders(decoders))):
                self.network(role)

    def _roles(self, flows: Flows, decoders: Sequence[str]) -> list[str]:
        stages = (flow_role("structure", flows), STRUCTURE_DECODER, flow_role("latent", flows))
        return [*stages, *(DECODERS[name] for name in decoders)]

    @contextmanager
    def _stage(self, run: _Run, name: str) -> Iterator[None]:
        """Measure a stage, reading of its network included, and free the network afterwards if memory is low."""
        self._synchronize()
        start = time.perf_counter()
        try:
            yield
            self._synchronize()
            run.timings[name] = time.perf_counter() - start
        finally:
            if self.low_memory:
                self._networks.clear()
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    # -------------------------------------------------------------------------------------------------- the stages

    @abstractmethod
    def _find_encoder(self, *, offline: bool) -> EncoderSource:
        """Where the encoder of the model is."""

    @abstractmethod
    def negative(self, cond: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        """The condition that guidance leads away from."""

    def structure_noise(self, generators: Sequence[torch.Generator]) -> Float[Tensor, "B C r r r"]:
        """Noise of the structure flow, drawn on the CPU, one generator per sample."""
        args = self.config.files(flow_role("structure", self.config.flows[0])).read_config()["args"]
        shape = (args["in_channels"], *[args["resolution"]] * 3)
        return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.device)

    def latent_noise(self, coords: Int[Tensor, "N 4"], generators: Sequence[torch.Generator]) -> Float[Tensor, "N C"]:
        """Noise of the latent flow, drawn on the CPU, one generator per sample."""
        counts = torch.bincount(coords[:, 0].long(), minlength=len(generators)).tolist()
        rows = [torch.randn(n, len(self._mean), generator=g) for n, g in zip(counts, generators, strict=True)]
        return torch.cat(rows).to(self.device)

    def sample_structure(
        self, cond: Float[Tensor, "B L C"], noise: Float[Tensor, "S c r r r"], *, flows: Flows, **options: Any
    ) -> Trajectory:
        """Run the structure flow from noise to a structure latent.

        Args:
            cond: tokens per sample; with ``fusion`` those of the views of one sample.
            noise: from ``structure_noise``.
            flows: "student" or "teacher".
            options: ``steps``, ``cfg_strength``, ``fusion`` and ``callback`` (of the sampler), all optional.
        """
        network = self.network(flow_role("structure", flows))
        make = partial(velocity_field, network, time_scale=self.config.time_scale)
        return self._sample("structure", make, cond, noise, flows=flows, **options)

    def decode_structure(self, latent: Float[Tensor, "B c r r r"]) -> Float[Tensor, "B R R R"]:
        """Occupancy logits of structure latents."""
        return self.network(STRUCTURE_DECODER)(latent)[:, 0].float()

    def sample_latent(
        self,
        cond: Float[Tensor, "B L C"],
        coords: Int[Tensor, "N 4"],
        noise: Float[Tensor, "N c"],
        *,
        flows: Flows,
        **options: Any,
    ) -> Trajectory:
        """Run the latent flow on the voxels ``coords``; the result is still normalised.

        Args:
            cond: tokens per sample; with ``fusion`` those of the views of one sample.
            coords: voxels (batch, x, y, z).
            noise: from ``latent_noise``.
            flows: "student" or "teacher".
            options: as for :meth:`sample_structure`.
        """
        network = self.network(flow_role("latent", flows))
        make = partial(sparse_velocity_field, network, coords=coords, time_scale=self.config.time_scale)
        return self._sample("latent", make, cond, noise, flows=flows, **options)

    def decode_latent(self, feats: Float[Tensor, "N c"], coords: Int[Tensor, "N 4"], decoder: str = "gs") -> list[Any]:
        """Decode normalised structured latents.

        Returns:
            Per sample ``Gaussians`` ("gs"), ``ExtractedMesh`` ("mesh") or ``Strivec`` ("rf").
        """
        slat = SparseTensor(feats=feats * self._std + self._mean, coords=coords)
        return self.network(DECODERS[decoder])(slat)

    def _sample(
        self,
        stage: Stage,
        make: Callable[[Tensor], VelocityField],
        cond: Tensor,
        noise: Tensor,
        *,
        flows: Flows,
        steps: int | None = None,
        cfg_strength: float | None = None,
        fusion: str | None = None,
        callback: Callable[[SamplerStep], None] | None = None,
    ) -> Trajectory:
        takes = extra_embeddings(self.network(flow_role(stage, flows)))
        sampler = self.config.samplers[flows, stage].sampler(steps=steps, cfg_strength=cfg_strength, takes=takes)
        negative = self.negative(cond)
        velocity = make(cond)
        if fusion is not None:
            velocity, negative = FUSIONS[fusion]([make(view[None]) for view in cond]), negative[:1]
        num_samples = len(cond) if fusion is None else 1
        return sampler.sample(velocity, noise, num_samples=num_samples, negative=make(negative), callback=callback)

    # ------------------------------------------------------------------------------------------------------ a call

    @torch.no_grad()
    def _generate(
        self,
        plan: Plan,
        encode: Callable[[], Float[Tensor, "B L C"]],
        *,
        images: Sequence[Tensor | None],
        prompts: Sequence[str | None],
    ) -> list[Asset]:
        """Run every stage; ``encode`` gives the condition tokens and belongs to the first."""
        self.load_flows(plan.flows, plan.decoders)
        run = _Run()
        with self._stage(run, "conditioning"):
            cond = encode()
        generators = [torch.Generator().manual_seed(seed) for seed in plan.seeds]
        logits = self._structure(run, plan, cond, generators)
        coords = occupied(logits, max_voxels=plan.max_voxels)
        with self._stage(run, "latent"):
            trajectory = self.sample_latent(
                cond, coords, self.latent_noise(coords, generators), **self._sampling(plan, "latent")
            )
        run.nfe["latent"] = _count(trajectory, plan, cond)
        made = {name: self._decode(run, trajectory.x, coords, name) for name in plan.decoders}
        return [
            Asset(
                representations={name: items[index] for name, items in made.items()},
                logits=logits[index].cpu(),
                image=images[index],
                prompt=prompts[index],
                timings=dict(run.timings),
                nfe=dict(run.nfe),
                steps=plan.steps,
                seed=plan.seeds[index],
                model=self.model_id,
                flows=plan.flows,
                batch_size=len(plan.seeds),
            )
            for index in range(len(plan.seeds))
        ]

    def _structure(
        self, run: _Run, plan: Plan, cond: Tensor, generators: Sequence[torch.Generator]
    ) -> Float[Tensor, "B R R R"]:
        """Logits of the structure flow, or of the given structure."""
        if plan.logits is not None:
            return plan.logits.to(self.device).expand(len(generators), -1, -1, -1)
        with self._stage(run, "structure"):
            noise = self.structure_noise(generators)
            trajectory = self.sample_structure(cond, noise, **self._sampling(plan, "structure"))
        run.nfe["structure"] = _count(trajectory, plan, cond)
        with self._stage(run, "structure_decode"):
            return self.decode_structure(trajectory.x)

    def _decode(self, run: _Run, feats: Tensor, coords: Tensor, decoder: str) -> list[Any]:
        with self._stage(run, _DECODER_STAGES[decoder]):
            items = self.decode_latent(feats, coords, decoder)
            return [item.to_mesh() for item in items] if decoder == "mesh" else [item.to("cpu") for item in items]

    def _sampling(self, plan: Plan, stage: Stage) -> dict[str, Any]:
        index = 0 if stage == "structure" else 1
        return {
            "flows": plan.flows,
            "steps": plan.steps[index],
            "cfg_strength": plan.guidance[index],
            "fusion": plan.fusion,
            "callback": count_steps(plan.progress, stage, plan.steps[index]),
        }


def _count(trajectory: Trajectory, plan: Plan, cond: Tensor) -> int:
    steps = len(trajectory.steps)
    return evaluations(plan.fusion, num_views=len(cond), num_steps=steps, counted=trajectory.num_evaluations)
