"""One method on the board: all learning rates and seeds side by side in one network, under a budget of forwards."""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from board import Discriminator, Network, field_of, one_hot, sample_board, teacher_field
from torch import Tensor, nn

from mdtdist.flow import DenseLayout, EulerSampler, randn_like
from mdtdist.objectives import OBJECTIVES, Fields, Latents, TeacherTrajectory

TARGET_DECAY = 0.95
HEADS_LR = 1e-3  # heads start from nothing, and keep one learning rate
STORED_BATCHES, STORED_STEPS, STORED_STATES = 100, 16, 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is spent on a method.

    Attributes:
        budget: forwards of a batch, in the terms of ``Cost.forwards``, for each learning rate and seed.
        batch_size: samples per run.
        learning_rates: tried side by side.
        seeds: runs of each learning rate.
    """

    budget: int = 12_000
    batch_size: int = 128
    learning_rates: tuple[float, ...] = (2e-4, 1e-3, 3e-3, 1e-2)
    seeds: int = 3

    @property
    def runs(self) -> int:
        """Learning rates times seeds; the seeds of one learning rate are neighbours."""
        return len(self.learning_rates) * self.seeds


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method with the options it has here.

    Attributes:
        method, variant: names in ``OBJECTIVES``.
        config: the options.
        changed: what differs from the variant, in words.
        steps: of the sampler that it is judged by.
    """

    method: str
    variant: str
    config: Any
    changed: str = ""
    steps: int = 1

    @property
    def name(self) -> str:
        return self.method if self.variant == "paper" else f"{self.method} ({self.variant})"

    @property
    def is_guided(self) -> bool:
        """Whether the teacher is asked with a weight, which is two forwards."""
        return "guidance" in self.config.needs


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trained student and what it took."""

    student: Network
    steps: int
    forwards: int
    seconds: float


# What a short training must set; all other options are the variants' own.
CHANGES: dict[str, dict[str, Any]] = {"phased_consistency": {"phases": 2}, "scm": {"warmup_steps": 0}}
STEPS = {"phased_consistency": 2}


def make_rows() -> list[Row]:
    """Every method and variant that is registered."""
    return [_row(method, variant) for method in OBJECTIVES for variant in ("paper", *OBJECTIVES[method].variants)]


def _row(method: str, variant: str) -> Row:
    config = OBJECTIVES[method].variant(variant)
    options = {option.name: getattr(config, option.name) for option in fields(config)}
    changes = {name: value for name, value in CHANGES.get(method, {}).items() if options[name] != value}
    # There are no low-rank updates here, and no guidance: the data are what the teacher is to sample.
    if options.get("fake") == "lora":
        changes["fake"] = "full"
    changes |= {name: None for name, value in options.items() if name.startswith("guidance") and value is not None}
    changed = [f"{name} {value}" for name, value in changes.items() if value is not None]
    changed += ["no guidance"] * (None in changes.values())
    return Row(
        method=method,
        variant=variant,
        config=replace(config, **changes),
        changed=", ".join(changed),
        steps=STEPS.get(method, 1),
    )


class Adam:
    """Adam with a learning rate for each run, the first axis of every parameter, and each run's gradient clipped."""

    def __init__(self, module: nn.Module, runs: int) -> None:
        self.parameters, self.runs, self.count = list(module.parameters()), runs, 0
        self.mean = [torch.zeros_like(p) for p in self.parameters]
        self.square = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, loss: Tensor, lr: Tensor) -> None:
        """Descend ``loss``, a sum over runs."""
        self.count += 1
        grads = torch.autograd.grad(loss, self.parameters)
        # Heads have several matrices per run; they fold into the axis of the parameters.
        norms = torch.stack([_by_run(g, self.runs).square().sum((0, 2)) for g in grads]).sum(0).sqrt()
        clip = 1 / norms.clamp(min=1)
        for p, grad, mean, square in zip(self.parameters, grads, self.mean, self.square, strict=True):
            grad = (_by_run(grad, self.runs) * clip[:, None]).view_as(p)
            mean.lerp_(grad, 0.1)
            square.lerp_(grad**2, 0.001)
            unbiased = mean / (1 - 0.9**self.count) / ((square / (1 - 0.999**self.count)).sqrt() + 1e-8)
            p.sub_((_by_run(unbiased, self.runs) * lr[:, None]).view_as(p))


def _by_run(x: Tensor, runs: int) -> Tensor:
    """``[groups, runs, numbers]``."""
    return x.reshape(len(x) // runs, runs, -1)


class Distillation:
    """The networks of one method and the batches they see."""

    def __init__(self, row: Row, teacher: Network, plan: Plan, seed: int) -> None:
        self.row, self.teacher, self.plan = row, teacher, plan
        self.generator = torch.Generator().manual_seed(seed)
        self.layout = DenseLayout(plan.runs * plan.batch_size)
        self.networks: dict[str, nn.Module] = {"student": teacher.repeated(plan.runs)}
        if "target" in row.config.needs:
            self.networks["target"] = copy.deepcopy(self.networks["student"])
        if "fake" in row.config.needs:
            self.networks["fake"] = teacher.repeated(plan.runs)
        if "discriminator" in row.config.needs:
            self.networks["discriminator"] = Discriminator(teacher, plan.runs, self.generator)
        losses = OBJECTIVES[row.method].losses
        self.turns = {name: loss for name, loss in losses.items() if name in self.networks}
        self.optimizers = {name: Adam(self.networks[name], plan.runs) for name in self.turns}
        self.lr = torch.tensor(plan.learning_rates).repeat_interleave(plan.seeds)
        self.stored = list(self._store()) if "trajectory" in row.config.needs else []

    @property
    def student(self) -> Network:
        student = self.networks["student"]
        assert isinstance(student, Network)
        return student

    def step(self, step: int, decay: float) -> None:
        """Train every network once, or as often as the method says."""
        others = [name for name in self.turns if name != "student"] * getattr(self.row.config, "updates", 1)
        for name in [*others, "student"]:
            latents, cond = self._batch()
            fields_ = {key: field_of(network, cond) for key, network in self.networks.items()}
            result = self.turns[name](
                Fields(teacher=teacher_field(self.teacher, cond), **fields_),
                latents,
                config=self.row.config,
                generator=self.generator,
                step=step,
            )
            lr = torch.full_like(self.lr, HEADS_LR) if name == "discriminator" else self.lr
            self.optimizers[name].step(result.loss.sum() / self.plan.batch_size, decay * lr)
        if "target" in self.networks:
            self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        pairs = zip(self.networks["target"].parameters(), self.student.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1 - TARGET_DECAY)

    def _batch(self) -> tuple[Latents, Tensor]:
        if self.stored:
            return self.stored[int(torch.randint(len(self.stored), (), generator=self.generator))]
        x_0, classes = sample_board(self.layout.num_samples, self.generator)
        return Latents(x_0=x_0, layout=self.layout), one_hot(classes)

    @torch.no_grad()
    def _store(self) -> Iterator[tuple[Latents, Tensor]]:
        """Trajectories of the teacher, the same few batches over and over."""
        for _ in range(min(STORED_BATCHES, self.plan.budget // 4 // STORED_STEPS + 1)):
            x_0, classes = sample_board(self.layout.num_samples, self.generator)
            noise, cond = randn_like(x_0, generator=self.generator), one_hot(classes)
            sampler = EulerSampler(steps=STORED_STEPS)
            steps = sampler.sample(teacher_field(self.teacher, cond), noise, num_samples=len(cond)).steps
            kept = steps[STORED_STEPS // STORED_STATES - 1 :: STORED_STEPS // STORED_STATES]
            trajectory = TeacherTrajectory(
                times=(1.0, *(step.t_next for step in kept)), states=(noise, *(step.x for step in kept))
            )
            yield Latents(x_0=trajectory.states[-1], layout=self.layout, trajectory=trajectory), cond


def distil(row: Row, teacher: Network, plan: Plan, *, seed: int) -> Outcome:
    """Train a student until the budget is spent; what is stored of the teacher counts. The learning rate falls to 0."""
    start = time.process_time()
    task = Distillation(row, teacher, plan, seed)
    forwards = row.config.cost.forwards(is_guided=row.is_guided)
    steps = max(1, (plan.budget - STORED_STEPS * len(task.stored)) // forwards)
    for step in range(steps):
        task.step(step, decay=1 - step / steps)
    return Outcome(student=task.student, steps=steps, forwards=forwards, seconds=time.process_time() - start)
