"""The exact Gaussian student is where every method comes to rest, with the fake network and the judge it deserves."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mdtdist.flow import DenseLayout, VelocityField
from mdtdist.objectives import DerivativeOptions, Fields, Latents, Normalization, phase_end
from tests.objectives.cases import CHANNELS, TURNS, Case
from tests.objectives.gaussian import Gaussian
from tests.objectives.test_trajectory import states_of

MEAN, STD, OWN_WEIGHT = 0.7, 0.5, 0.4
EXACT_DERIVATIVE = DerivativeOptions(kind="jvp")


@dataclass(frozen=True, kw_only=True)
class Rest:
    """In which sense a method rests at the exact student.

    Attributes:
        options: what has to be set for it, and in ``why`` the reason.
        in_mean: whether the gradient vanishes in expectation over the draws, not for each of them.
        tolerance: largest gradient of a sample that passes for none, where it vanishes for each.
        wrong: the network whose fault must show in the gradient.
        directions: of the student's errors: "shift" (a constant), "scale" (in x), "drift" (in t).
        why: the reason for what differs from the defaults.
    """

    options: dict[str, Any] = field(default_factory=dict)
    in_mean: bool = False
    tolerance: float = 1e-8
    wrong: str | None = None
    directions: tuple[str, ...] = ("shift", "scale", "drift")
    why: str = ""


JUDGE = Rest(
    in_mean=True,
    wrong="student",
    directions=("scale",),
    why="a real sample against one of the student's, at the same time: what both have in common cannot matter",
)
RESTS: dict[tuple[str, str], Rest] = {
    ("consistency", "student"): Rest(
        options={"solver": "heun", "delta_t": 1e-3, "skip": 1},
        tolerance=1e-5,
        why="the teacher's step misses its trajectory by the third power of its length; Huber divides that by c",
    ),
    ("phased_consistency", "student"): Rest(
        options={"solver": "heun", "delta_t": 1e-4},
        tolerance=1e-7,
        why="as consistency; and within two steps of an edge the target is one of the phase below",
    ),
    ("phased_consistency", "discriminator"): Rest(
        options={"solver": "heun", "delta_t": 1e-4},
        tolerance=1e-7,
        wrong="student",
        directions=("scale",),
        why="both sides of the pair are the same up to the teacher's step",
    ),
    ("scm", "student"): Rest(
        options={"warmup_steps": 0}, why="before its end the warm-up leaves out half of the tangent"
    ),
    ("sds", "student"): Rest(
        in_mean=True, directions=("shift",), why="it seeks modes: a narrower student has less loss"
    ),
    ("dmd", "student"): Rest(wrong="fake", why="the fake network stands for what the student makes"),
    ("dmd", "fake"): Rest(in_mean=True, why="flow matching on single samples"),
    ("dmd", "discriminator"): JUDGE,
    ("ladd", "student"): Rest(wrong="discriminator", why="the judge that cannot tell is constant"),
    ("ladd", "discriminator"): JUDGE,
    ("shortcut", "student"): Rest(
        options={"num_steps": 2**16}, tolerance=1e-3, why="the shortest jumps are the teacher's Euler steps"
    ),
    ("trajectory", "student"): Rest(tolerance=3e-4, why="distances are taken in float32; Huber divides them by c"),
}
# Options under which a method rests elsewhere.
NOT_AT_REST = {
    ("mdt", "released"): "the normalised derivative all but vanishes, and the guided velocity alone is learned",
}


def guided_teacher(layout: DenseLayout) -> Callable[..., Gaussian]:
    """The Gaussian that a teacher of ``w`` samples from: its mean is moved on by ``w``."""

    def under(w: float | Tensor | None) -> Gaussian:
        w = OWN_WEIGHT if w is None else w
        return Gaussian(mean=layout.expand(MEAN * (1 + torch.as_tensor(w)), torch.zeros(1, 1)), std=STD, layout=layout)

    return under


def exact_student(case: Case, teacher: Callable[..., Gaussian]) -> VelocityField:
    """What the method is to find, as a field of ``x``, ``t``, ``r``, ``w``."""

    def student(x: Tensor, t: Tensor, *, r: Tensor | None = None, w: Tensor | None = None) -> Tensor:
        if "guidance" in case.config.needs:
            return teacher(w).velocity(x, t)
        if case.method == "phased_consistency":
            r = phase_end(t, case.config.phases, case.config.gap)
        return teacher(w).average_velocity(x, t, r=torch.zeros_like(t) if r is None else r)

    return student


def at_rest(case: Case, rest: Rest) -> Case:
    """The case without what moves any method away: guidance beyond the teacher's own, inexact derivatives."""
    config = case.config
    changes: dict[str, Any] = {}
    for option in fields(config):
        if option.name.startswith("guidance"):
            changes[option.name] = None
        if isinstance(getattr(config, option.name), DerivativeOptions):
            changes[option.name] = EXACT_DERIVATIVE
    return replace(case, config=replace(config, **changes | rest.options))


def gradients(case: Case, network: str, rest: Rest, *, num: int, wrong: str | None) -> Tensor:
    """Gradient of each sample's loss on three errors of the trained network, ``[num, 3]``."""
    layout = DenseLayout(num)
    teacher = guided_teacher(layout)
    errors = torch.zeros(num, 3, dtype=torch.float64, requires_grad=True)
    student = exact_student(case, teacher)
    exact = {
        "student": student,
        "teacher": lambda x, t, w=None: teacher(w).velocity(x, t),
        "target": student,
        "fake": teacher(None).velocity,
        "discriminator": lambda x, t: 0 * x,  # a head for every channel
    }

    def faulty(name: str) -> VelocityField:
        def answer(x: Tensor, t: Tensor, **extra: Any) -> Tensor:
            value = exact[name](x, t, **extra)
            if name == network:
                value = value + errors[:, :1] + errors[:, 1:2] * x + errors[:, 2:] * layout.expand(t, x)
            return value + 0.3 + 0.2 * x if name == wrong else value

        return answer

    needed = {"student", "teacher", *case.config.needs} & exact.keys()
    trajectory = states_of(teacher(None), layout, num)
    latents = Latents(x_0=trajectory.states[-1], layout=layout, trajectory=trajectory)
    loss = case.run(network, Fields(**{name: faulty(name) for name in needed}), latents, seed=3).loss
    (grad,) = torch.autograd.grad(loss.sum(), errors, allow_unused=True, materialize_grads=True)
    return CHANNELS * grad


@pytest.mark.parametrize(("case", "network"), TURNS, ids=[f"{c}-{n}" for c, n in TURNS])
def test_exact_student_is_at_rest_and_a_wrong_one_is_not(case, network):
    rest = RESTS.get((case.method, network), Rest())
    if (case.method, case.label) in NOT_AT_REST:
        rest = replace(rest, options={**rest.options, "normalization": Normalization()})
    case, wrong = at_rest(case, rest), rest.wrong or network
    columns = [("shift", "scale", "drift").index(name) for name in rest.directions]
    num = 20_000 if rest.in_mean else 200
    grads, faults = (gradients(case, network, rest, num=num, wrong=name)[:, columns] for name in (None, wrong))
    if not rest.in_mean:
        assert grads.abs().max() < rest.tolerance
        assert faults.mean(0).abs().min() > 30 * rest.tolerance
        return
    # In units of the standard error of the mean, with a fixed seed.
    scores, fault_scores = ((g.mean(0) / (g.std(0) / num**0.5)).abs() for g in (grads, faults))
    assert scores.max() < 4 and fault_scores.max() > 10


def test_the_released_variant_rests_elsewhere():
    case = next(case for case, _ in TURNS if (case.method, case.label) == ("mdt", "released"))
    grads = gradients(at_rest(case, Rest()), "student", Rest(), num=200, wrong=None)
    assert grads.abs().max() > 0.1
