"""Task: distil a flow teacher into a few-step student."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.flow import EulerSampler, Guidance, VelocityField, guided_field
from mdtdist.models import load, save
from mdtdist.objectives import OBJECTIVES
from mdtdist.training.config import from_dict
from mdtdist.training.flow import make_batches
from mdtdist.training.latent_batches import LatentBatch, StageData
from mdtdist.training.trainer import EpochSampler, step_generator

_STORED_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """A distillation.

    Attributes:
        data: what it is trained on.
        teacher: path of the teacher without suffix.
        student: path of the weights the student starts from, without suffix; None starts it as a copy of the teacher.
        objective: name of a method of ``objectives.OBJECTIVES``.
        options: its options, checked against the config of the method.
        guidance: weight w of the teacher's guidance, distilled into the student.
        guidance_interval: times at which the teacher is guided.
        teacher_steps, teacher_rescale_t: how the reference samples of the validation are drawn.
        stored_batches: training batches whose noise and teacher samples are kept in memory and used over and over, for
            objectives that have ``targets``; 0 draws new noise at every step. A resumed run samples them again.
        num_reference_batches: validation batches that are compared with the teacher's samples; drawing these once costs
            ``teacher_steps`` guided steps each.
    """

    data: StageData
    teacher: Path
    student: Path | None = None
    objective: str = "mdt"
    options: dict[str, Any] = field(default_factory=dict)
    guidance: float = 1.0
    guidance_interval: tuple[float, ...] = (0.5, 1.0)
    teacher_steps: int = 25
    teacher_rescale_t: float = 3.0
    stored_batches: int = 0
    num_reference_batches: int = 4

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective is '{self.objective}'; expected one of {', '.join(OBJECTIVES)}")
        if len(self.guidance_interval) != 2:
            raise InputError(f"guidance_interval is {self.guidance_interval}; expected the two times [low, high]")
        if self.stored_batches and self.objective != "endpoint":
            raise InputError(f"stored_batches is {self.stored_batches}, but only the objective endpoint has targets")
        from_dict(OBJECTIVES[self.objective].config, self.options, where="distil.options")


class DistilTask:
    """Minimises an objective between the student and the frozen, guided teacher, both seen as velocity fields."""

    def __init__(self, config: DistilConfig, *, seed: int, device: str) -> None:
        self.config = config
        self.batches = make_batches(config.data, seed=seed, device=device)
        self.teacher: nn.Module = load(config.teacher, device=device).requires_grad_(False)
        self.module: nn.Module = load(config.student or config.teacher, device=device)
        objective = OBJECTIVES[config.objective]
        self.options = from_dict(objective.config, config.options, where="options")
        self.objective = objective.loss
        self.guidance = Guidance(w=config.guidance, interval=(config.guidance_interval[0], config.guidance_interval[1]))
        self._references: list[Tensor] = []
        self._stored: dict[int, Tensor] = {}
        self._stored_order = EpochSampler(max(1, config.stored_batches), seed)

    def loss(self, step: int, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
        more: dict[str, Any] = {}
        if self.config.stored_batches:
            (step,) = self._stored_order.batch(step, 1)
            generator = step_generator(_STORED_SEED, step)  # the same batch and noise whenever its turn comes
            more["targets"] = self._stored.get(step)
        batch = self.batches.train(step, batch_size, generator)
        result = self.objective(
            batch.field(self.module),
            self._teacher_field(batch),
            batch.x_0,
            layout=batch.layout,
            config=self.options,
            generator=generator,
            **more,
        )
        if self.config.stored_batches:
            self._stored[step] = result.targets
        return {name: value.mean() for name, value in vars(result).items() if name not in ("t", "targets")}

    def _teacher_field(self, batch: LatentBatch) -> VelocityField:
        negative = batch.field(self.teacher, torch.zeros_like(batch.cond))
        return guided_field(batch.field(self.teacher), negative, self.guidance, expand=batch.layout.expand)

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        """RMS distance of one- and two-step samples to the teacher's own many-step samples from the same noise."""
        figures = {}
        references = self._teacher_samples()
        for steps in (1, 2):
            distances = []
            for (batch, generator), reference in zip(self._reference_batches(), references, strict=True):
                sampled = batch.sample(self.module, EulerSampler(steps=steps), generator)
                distances.append(batch.layout.rms(sampled - reference))
            figures[f"paired_{steps}"] = torch.cat(distances).mean().item()
        judged = self.batches.judge(self.module, EulerSampler(steps=1), folder, step)
        return figures | {f"one_step_{name}": value for name, value in judged.items()}

    def _reference_batches(self) -> Iterator[tuple[LatentBatch, torch.Generator]]:
        return itertools.islice(self.batches.validation(), self.config.num_reference_batches)

    def _teacher_samples(self) -> list[Tensor]:
        if not self._references:
            sampler = EulerSampler(
                steps=self.config.teacher_steps, rescale_t=self.config.teacher_rescale_t, guidance=self.guidance
            )
            for batch, generator in self._reference_batches():
                self._references.append(batch.sample(self.teacher, sampler, generator))
        return self._references

    def export(self, folder: Path) -> None:
        save(self.module, folder / "student")
