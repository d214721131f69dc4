"""Task: distil a flow teacher into a few-step student."""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdtdist.config import from_dict
from mdtdist.errors import InputError
from mdtdist.flow import EulerSampler, Guidance, VelocityField, guided_field
from mdtdist.models import EXTRA_EMBEDDINGS, extra_embeddings, load, logit_field, save, with_extra_embeddings
from mdtdist.objectives import OBJECTIVES, Fields, Latents
from mdtdist.training.companions import make_companions
from mdtdist.training.digests import digest, module_digest
from mdtdist.training.flow import make_batches
from mdtdist.training.image_data import ImageData
from mdtdist.training.latent_batches import LatentBatch, StageData
from mdtdist.training.task import MAIN, Draw, Task
from mdtdist.training.teachers import check_fit, flow_files
from mdtdist.training.trajectories import TrajectoryOptions, TrajectoryStore
from mdtdist.training.trellis_data import TrellisData


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """A distillation.

    Attributes:
        data: what it is trained on.
        teacher: path of the teacher without suffix; or a model folder, shipped model or hub id, of which the flow of
            the stage is taken.
        student: path of the weights the student starts from, without suffix; None starts it as a copy of the teacher.
        objective: name of a method of ``objectives.OBJECTIVES``.
        variant: named options of the method to start from; "paper" has the defaults.
        options: options that differ from the variant, checked against the config of the method.
        trajectories: which trajectories of the teacher are kept; only for methods that need them, or to go without
            data. A resumed run samples them again, unless they are kept in a cache.
        guidance: weight w of the teacher's guidance, distilled into the student.
        guidance_interval: times at which the teacher is guided.
        objective_interval: the same inside the objective, where that differs from how the teacher is sampled.
        companion_lr: learning rate of fake network and discriminator over the student's.
        target_decay: decay per step of the slow average of the student, for methods that need "target".
        teacher_steps, teacher_rescale_t: how the reference samples of the validation are drawn.
        num_reference_batches: validation batches that are compared with the teacher's samples; drawing these once costs
            ``teacher_steps`` guided steps each.
    """

    data: StageData | TrellisData | ImageData
    teacher: Path
    student: Path | None = None
    objective: str = "mdt"
    variant: str = "paper"
    options: dict[str, Any] = field(default_factory=dict)
    trajectories: TrajectoryOptions | None = None
    guidance: float = 1.0
    guidance_interval: tuple[float, ...] = (0.5, 1.0)
    objective_interval: tuple[float, ...] | None = None
    companion_lr: float = 1.0
    target_decay: float = 0.95
    teacher_steps: int = 25
    teacher_rescale_t: float = 3.0
    num_reference_batches: int = 4

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective is '{self.objective}'; expected one of {', '.join(OBJECTIVES)}")
        for name in ("guidance_interval", "objective_interval"):
            if (interval := getattr(self, name)) is not None and len(interval) != 2:
                raise InputError(f"{name} is {interval}; expected the two times [low, high]")
        if isinstance(self.data, ImageData) and not (self.trajectories and self.trajectories.as_data):
            raise InputError(
                f"the source of {self.data.name} is images, which have no latents; let samples of the teacher stand in "
                "for them: [distil.trajectories] with as_data = true"
            )
        if "trajectory" in self.method.needs and self.trajectories is None:
            raise InputError(f"objective {self.objective} needs [distil.trajectories]; add it with num_batches")

    @property
    def method(self) -> Any:
        """The options of the method: those of the variant, with ``options`` in their place where given."""
        return merge_options(self.objective, self.variant, self.options)


def merge_options(objective: str, variant: str, changes: dict[str, Any]) -> Any:
    """The options of a variant of a method, with ``changes`` in their place.

    Raises:
        InputError: if a change names no option, or has a wrong type or value.
    """
    method = OBJECTIVES[objective]
    return from_dict(method.config, _merge(asdict(method.variant(variant)), changes), where="distil.options")


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``, table by table."""
    merged = dict(base)
    for key, value in changes.items():
        both_tables = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both_tables else value
    return merged


class DistilTask(Task):
    """Minimises an objective between the student and the frozen, guided teacher, both seen as velocity fields."""

    def __init__(self, config: DistilConfig, *, seed: int, device: str) -> None:
        self.config = config
        teacher = flow_files(config.teacher, config.data.stage)
        self.batches = make_batches(config.data, seed=seed, device=device, teacher=config.teacher)
        check_fit(next(iter(self.batches.validation()))[0], teacher, data=config.data.name)
        self.teacher: nn.Module = load(teacher, device=device).requires_grad_(False)
        if "interval" in extra_embeddings(self.teacher):
            raise InputError(f"{config.teacher} embeds intervals, as few-step students do; expected a velocity")
        self.method, self.objective = config.method, OBJECTIVES[config.objective]
        start = load(config.student or teacher, device=device).requires_grad_(True)
        self.module: nn.Module = with_extra_embeddings(start, sorted(self.method.needs & set(EXTRA_EMBEDDINGS)))
        self.companions = make_companions(self.method, student=self.module, teacher=self.teacher, seed=seed)
        others = [name for name in self.objective.losses if name in self.companions]
        self.turns = (*(others * getattr(self.method, "updates", 1)), MAIN)
        self.lr_scale = {name: config.companion_lr for name in others}
        self.guidance = Guidance(w=config.guidance, interval=(config.guidance_interval[0], config.guidance_interval[1]))
        interval = config.objective_interval or config.guidance_interval
        self.objective_guidance = Guidance(w=config.guidance, interval=(interval[0], interval[1]))
        self.store = self._trajectory_store(seed)
        self._references: list[Tensor] = []

    def _trajectory_store(self, seed: int) -> TrajectoryStore | None:
        options = self.config.trajectories
        if options is None:
            return None
        named = "" if options.cache is None else digest(module_digest(self.teacher), repr(self.guidance))
        return TrajectoryStore(options, seed=seed, teacher=named)

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        batch, latents = self._draw(draw)
        loss = self.objective.losses[draw.network]
        result = loss(self._fields(batch), latents, config=self.method, generator=draw.generator, step=draw.step)
        self.last_draw = {"ids": batch.ids, "t": result.t}
        figures = {name: value.mean() for name, value in vars(result).items() if name != "t"}
        if self.store is not None and self.store.options.cache is not None:
            # How far the teacher's part is, while a cache is filled or first read.
            figures["trajectories"] = figures["loss"].new_tensor(self.store.progress)
        return figures

    def _draw(self, draw: Draw) -> tuple[LatentBatch, Latents]:
        if self.store is None:
            batch = self.batches.train(draw)
            return batch, Latents(x_0=batch.x_0, layout=batch.layout)
        batch, trajectory = self.store.draw(draw, self.batches.train, self._teacher_field)
        x_0 = trajectory.states[-1] if self.store.options.as_data else batch.x_0
        return batch, Latents(x_0=x_0, layout=batch.layout, trajectory=trajectory)

    def _fields(self, batch: LatentBatch) -> Fields:
        others = {name: self._companion_field(name, batch) for name in self.companions}
        teacher = self._teacher_field(batch, self.objective_guidance)
        student = self._field(self.module, batch)
        derivative = getattr(self.method, "derivative", None)
        if derivative is not None and derivative.kind != "jvp":
            student = in_float32(student)  # a difference quotient of 16-bit passes is noise
        return Fields(student=student, teacher=teacher, **others)

    def _companion_field(self, name: str, batch: LatentBatch) -> VelocityField:
        network = self.companions[name]
        if name != "discriminator":
            return self._field(network, batch)
        logits = logit_field(network, batch.cond, batch.coords, time_scale=batch.time_scale)
        return self._told_guidance(network, logits)

    def _field(self, network: nn.Module, batch: LatentBatch) -> VelocityField:
        """A network that embeds the guidance is told the teacher's weight, unless its method says another."""
        return self._told_guidance(network, batch.field(network))

    def _told_guidance(self, network: nn.Module, field: VelocityField) -> VelocityField:
        return partial(field, w=self.guidance.w) if "guidance" in extra_embeddings(network) else field

    def _teacher_field(self, batch: LatentBatch, guidance: Guidance | None = None) -> VelocityField:
        if "guidance" in extra_embeddings(self.teacher):
            return self._field(self.teacher, batch)
        negative = batch.field(self.teacher, torch.zeros_like(batch.cond))
        return guided_field(batch.field(self.teacher), negative, guidance or self.guidance, expand=batch.layout.expand)

    def after_step(self, step: int) -> None:
        """The slow average follows the student."""
        if "target" in self.companions:
            pairs = zip(self.companions["target"].parameters(), self.module.parameters(), strict=True)
            with torch.no_grad():
                for slow, fast in pairs:
                    slow.lerp_(fast, 1 - self.config.target_decay)

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """RMS distance of one- and two-step samples to the teacher's own many-step samples from the same noise."""
        figures = {}
        references = self._teacher_samples()
        for steps in (1, 2):
            distances = []
            for (batch, generator), reference in zip(self._reference_batches(), references, strict=True):
                sampled = batch.sample(self.module, self._sampler(steps), generator)
                distances.append(batch.layout.rms(sampled - reference))
            if distances:
                figures[f"paired_{steps}"] = torch.cat(distances).mean().item()
        judged = self.batches.judge(self.module, self._sampler(1), folder, step)
        return figures | {f"one_step_{name}": value for name, value in judged.items()}

    def _sampler(self, steps: int) -> EulerSampler:
        """How the student is sampled; it has learned the guidance, but may want to be told which."""
        takes = extra_embeddings(self.module)
        return EulerSampler(steps=steps, guidance=self.guidance if "guidance" in takes else Guidance(), takes=takes)

    def _reference_batches(self) -> Iterator[tuple[LatentBatch, torch.Generator]]:
        return itertools.islice(self.batches.validation(), self.config.num_reference_batches)

    def _teacher_samples(self) -> list[Tensor]:
        if not self._references:
            sampler = EulerSampler(
                steps=self.config.teacher_steps,
                rescale_t=self.config.teacher_rescale_t,
                guidance=self.guidance,
                takes=extra_embeddings(self.teacher),
            )
            for batch, generator in self._reference_batches():
                self._references.append(batch.sample(self.teacher, sampler, generator))
        return self._references

    def export(self, folder: Path) -> None:
        save(self.module, folder / "student")


def in_float32(field: VelocityField) -> VelocityField:
    """A field whose network is evaluated without autocast, on inputs of at least float32."""

    def wide(x: Tensor, t: Tensor, **more: Any) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return field(x.to(torch.promote_types(x.dtype, torch.float32)), t, **more)

    return wide
