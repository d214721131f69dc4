"""The distillation objectives of the released MDT-dist trainer, on a two-layer network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch import Tensor

from mdtdist.flow import DenseLayout, LinearPath, VelocityField
from mdtdist.objectives import (
    RELEASED,
    ConsistencyPair,
    DerivativeOptions,
    Metric,
    Normalization,
    TimeOptions,
    consistency_pair,
    drive,
    phase_end,
    transport_residual,
    velocity_distillation_loss,
    velocity_matching_loss,
)

if TYPE_CHECKING:
    from tests.parity.families import Case


def network_field(weights: dict[str, Tensor], cond: Tensor) -> VelocityField:
    """``v(x, t)`` of the recorded network; it was called with ``1000 t``, of which it took a thousandth."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        inputs = torch.cat([x.flatten(1), t[:, None], cond], dim=1)
        hidden = torch.tanh(inputs @ weights["w1"].T + weights["b1"])
        return (hidden @ weights["w2"].T + weights["b2"]).reshape(x.shape)

    return field


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def guided(case: Case) -> VelocityField:
    """The teacher as a field that takes ``w``."""
    weights = with_prefix(case.weights, "teacher.")
    conditional, negative = (network_field(weights, case.inputs[name]) for name in ("cond", "neg_cond"))
    return lambda x, t, *, w: (1 + w) * conditional(x, t) - w * negative(x, t)


@dataclass(frozen=True)
class Side:
    """What one of the two losses compares.

    Attributes:
        prediction, target: the recorded pair.
        loss: per sample.
    """

    prediction: Tensor
    target: Tensor
    loss: Tensor


class Replay:
    """One recorded case: a student, a teacher and the draws of a step."""

    def __init__(self, case: Case) -> None:
        self.case, self.args = case, case.config["trainer_args"]
        self.weights = {name: w.requires_grad_() for name, w in with_prefix(case.weights, "student.").items()}
        self.student = network_field(self.weights, case.inputs["cond"])
        self.t, self.noise = case.inputs["t"], case.inputs["noise"]
        self.layout = DenseLayout(len(self.t))
        self.path = LinearPath(sigma_min=self.args["sigma_min"])
        self.gap = self.args.get("distill_interval", 1e-2)

    def teacher(self, x_0: Tensor, guidance: float) -> VelocityField:
        """The guided teacher, or the velocity between data and noise where there is none."""
        if not self.case.config["teacher"]:
            return lambda x, t: self.path.velocity(x_0, self.noise)
        field = guided(self.case)
        return lambda x, t: field(x, t, w=guidance)

    def options(self) -> dict[str, Any]:
        """How the released trainer takes and scales the derivative."""
        is_exact = self.args["distill_type"] == "continuous"
        # The exact derivative has no step; its times start near 0.
        derivative = DerivativeOptions(kind="jvp", delta_t=1e-6) if is_exact else DerivativeOptions(delta_t=self.gap)
        normalization = RELEASED.normalization if self.args.get("d_norm", True) else Normalization()
        return {"layout": self.layout, "derivative": derivative, "normalization": normalization}

    def noisy(self, x_0: Tensor) -> Tensor:
        return self.path.sample(x_0, self.noise, self.layout.expand(self.t, x_0))

    def pair(self, x_0: Tensor, teacher: VelocityField) -> ConsistencyPair:
        """The two sides of the "cm" mode."""
        return consistency_pair(
            self.student,
            self.student,
            teacher,
            self.noisy(x_0),
            self.t,
            t_next=self.t - self.gap,
            end=phase_end(self.t, self.args.get("multiphase", 1), self.gap),
            layout=self.layout,
        )

    def residual_sides(self, x_0: Tensor, teacher: VelocityField) -> tuple[Tensor, Tensor]:
        parts = transport_residual(self.student, teacher, self.noisy(x_0), self.t, **self.options())
        return parts.phi, parts.v - self.layout.expand(self.t, parts.v) * parts.derivative

    def matching(self) -> Side:
        x_0 = self.case.inputs["x_0"]
        teacher = self.teacher(x_0, self.args["cfg_teacher_vm"])
        if self.args["distill_type"] == "cm":
            pair = self.pair(x_0, teacher)
            return Side(pair.prediction, pair.target, Metric().distance(pair.prediction, pair.target, self.layout))
        loss = velocity_matching_loss(self.student, teacher, self.noisy(x_0), self.t, **self.options())
        return Side(*self.residual_sides(x_0, teacher), loss)

    def distillation(self) -> tuple[Side, Tensor, Tensor]:
        """Also the student's one-step velocities and samples."""
        start = self.case.inputs["noise_fake"]
        phi = self.student(start, torch.ones_like(self.t))
        fake = (start - phi).detach()
        teacher = self.teacher(fake, self.args["cfg_teacher_vd"])
        if self.args["distill_type"] == "cm":
            pair = self.pair(fake, teacher)
            # The release adds the difference of end points to a velocity.
            direction = (pair.prediction - pair.target).detach()
            loss = drive(phi, direction, layout=self.layout, weight=torch.full_like(self.t, 2))
            return Side(pair.prediction, pair.target, loss), phi, fake
        loss = velocity_distillation_loss(
            self.student,
            teacher,
            start,
            self.noise,
            self.t,
            weighting=RELEASED.vd_weighting,
            path=self.path,
            **self.options(),
        )
        return Side(*self.residual_sides(fake, teacher), loss), phi, fake


@contextmanager
def recorded_draws(*, normal: list[Tensor], uniform: Tensor) -> Iterator[None]:
    """Recorded numbers in place of a generator's: normal ones in turn, uniform ones every time."""
    with patch("torch.randn", side_effect=normal), patch("torch.rand", return_value=uniform):
        yield


@torch.enable_grad()
def mdt(case: Case) -> dict[str, Tensor]:
    """Both losses of one step, what they compare, and their gradients, weighted, alone and together."""
    replay = Replay(case)
    vm = replay.matching()
    vd, phi, fake = replay.distillation()
    losses = {
        "vm": replay.args.get("lambda_vm", 1.0) * vm.loss.mean(),
        "vd": replay.args.get("lambda_vd", 1.0) * vd.loss.mean(),
    }
    losses["total"] = losses["vm"] + losses["vd"]
    outputs = {f"{name}.v_pred": side.prediction for name, side in (("vm", vm), ("vd", vd))}
    outputs |= {f"{name}.v_tgt": side.target for name, side in (("vm", vm), ("vd", vd))}
    outputs |= {"vd.v_fake": phi, "vd.x_fake": fake, "loss_vm": losses["vm"][None], "loss_vd": losses["vd"][None]}
    for name, loss in losses.items():
        gradients = torch.autograd.grad(loss, list(replay.weights.values()), retain_graph=True)
        outputs[f"loss.{name}"] = loss[None]
        outputs |= {f"grad.{name}.{key}": grad for key, grad in zip(replay.weights, gradients, strict=True)}
    return {key: value.detach() for key, value in outputs.items()}


def mdt_time(case: Case) -> dict[str, Tensor]:
    """Training times from recorded draws, and the ends of phases."""
    outputs = {}
    for mode in ("discrete", "continuous", "cm"):
        for interval in (0.01, 0.05):
            gap = 0.0 if mode == "continuous" else interval
            name = f"{mode}.iv{interval}"
            outputs[f"{name}.logitnormal"] = _times(case, "normal", RELEASED.time, gap)
            outputs[f"{name}.uniform"] = _times(case, "uniform", TimeOptions(), gap)
            for phases in (1, 2, 4):
                outputs[f"{name}.target_mp{phases}"] = _phase_ends(case.inputs["t_grid"], phases, gap)
    return outputs


def _times(case: Case, draw: str, options: TimeOptions, gap: float) -> Tensor:
    """Times from the recorded draws in place of those of a generator."""
    drawn = case.inputs[draw]
    with recorded_draws(normal=[case.inputs["normal"]], uniform=case.inputs["uniform"]):
        return options.sample(drawn, len(drawn), low=gap + RELEASED.sigma_min, generator=torch.Generator())


def _phase_ends(t: Tensor, phases: int, gap: float) -> Tensor:
    # Below its gap, where it never goes, the release takes the last edge instead of the first.
    return torch.where(t < gap, (phases - 1) / phases, phase_end(t, phases, gap))
