"""What every distillation method is made of: the fields it asks, the latents it sees, what it needs and costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import Layout, VelocityField


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The networks of a distillation as functions of ``(x, t)``, under the conditions of one batch.

    Attributes:
        student: transport network ``phi(x, t)``; takes ``r`` or ``w`` too where the method needs it.
        teacher: velocity ``v(x, t)``, guided with its own weight, or with another one given as ``w``.
        target: slow average of the student, for methods that need "target"; else the student itself.
        fake: velocity field of the student's own samples, trained beside it.
        discriminator: ``logits(x, t)``, one row per sample, high for real samples.
    """

    student: VelocityField
    teacher: VelocityField
    target: VelocityField | None = None
    fake: VelocityField | None = None
    discriminator: VelocityField | None = None

    def required(self, name: str) -> VelocityField:
        """The field of that name.

        Raises:
            ValueError: if there is none.
        """
        field_: VelocityField | None = getattr(self, name)
        if field_ is None:
            raise ValueError(f"this method needs the field '{name}', which is None; give one")
        return field_

    def target_of(self, target: Literal["online", "ema"]) -> VelocityField:
        """Whose outputs are the target: the student's own, or those of its slow average.

        Raises:
            ValueError: if it is the slow average and there is none.
        """
        if target == "online":
            return self.student
        if self.target is None:
            raise ValueError("target is 'ema' but the fields have no slow average; add one or choose 'online'")
        return self.target


@dataclass(frozen=True, kw_only=True)
class TeacherTrajectory:
    """States of the teacher's sampler on its way from noise to a sample.

    Attributes:
        times: falling from 1 to 0.
        states: the state at each time, shaped like the latents; the first is the noise, the last the sample.
    """

    times: tuple[float, ...]
    states: tuple[Float[Tensor, "..."], ...]


@dataclass(frozen=True, kw_only=True)
class Latents:
    """The latents of one batch.

    Attributes:
        x_0: data, or samples of the teacher in its place.
        layout: how the samples lie in ``x_0``.
        trajectory: how the teacher came from noise to its samples, for methods that need "trajectory".
    """

    x_0: Float[Tensor, "..."]
    layout: Layout
    trajectory: TeacherTrajectory | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Evaluations in one step of a method, per sample.

    Attributes:
        student_grad: passes of the student that gradients flow through.
        student: passes of the student, or of its slow average, without gradients; a JVP counts as two.
        teacher: velocities asked of the teacher; a guided one is two forwards.
        teacher_grad: passes of the frozen teacher that gradients flow through to the student's samples.
        fake: passes of the fake network without gradients.
        fake_grad: passes of the fake network in its own updates.
        features: unguided passes of the teacher that a discriminator reads, without gradients.
    """

    student_grad: int = 0
    student: int = 0
    teacher: int = 0
    teacher_grad: int = 0
    fake: int = 0
    fake_grad: int = 0
    features: int = 0

    def forwards(self, *, is_guided: bool = True) -> int:
        """The sum in forwards of one network; a pass with its backward counts as three."""
        with_gradients = 3 * (self.student_grad + self.teacher_grad + self.fake_grad)
        without = self.student + self.fake + self.features + (2 if is_guided else 1) * self.teacher
        return with_gradients + without


@runtime_checkable
class MethodConfig(Protocol):
    """Options of a method: a frozen dataclass whose defaults are those of its paper."""

    @property
    def needs(self) -> frozenset[str]:
        """What the method asks for beyond student, teacher and latents.

        "target", "fake", "discriminator": these fields; "trajectory": the teacher's way to ``x_0``; "interval",
        "guidance": a student that takes ``r`` or ``w``.
        """
        ...

    @property
    def cost(self) -> Cost:
        """Evaluations in one step, the updates of every network included."""
        ...


class LossFunction(Protocol):
    """The loss of one trained network; returns a dataclass whose ``loss`` is per sample, the rest being for the log."""

    def __call__(
        self, fields: Fields, latents: Latents, *, config: Any, generator: torch.Generator, step: int = 0
    ) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A method.

    Attributes:
        config: frozen dataclass of the options, a ``MethodConfig``.
        losses: loss of each network that is trained: "student", and "fake" or "discriminator" where there is one. A
            step trains the others first, ``config.updates`` times where the config has that field, then the student.
        variants: named options; "paper" is ``config()``.
    """

    config: type[Any]
    losses: Mapping[str, LossFunction]
    variants: Mapping[str, Any] = field(default_factory=dict)

    def variant(self, name: str) -> Any:
        """The options of a variant.

        Raises:
            ValueError: if the method has no variant of that name.
        """
        if name == "paper":
            return self.config()
        if name not in self.variants:
            raise ValueError(f"variant is {name!r}; expected one of {', '.join(['paper', *self.variants])}")
        return self.variants[name]
