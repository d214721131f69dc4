"""How good few-step samples are: beside the data, beside the squares, and beside the teacher's from the same noise."""

from dataclasses import dataclass

import torch
from board import CLASSES, Network, field_of, is_on_board, one_hot, sample_board, teacher_field
from jaxtyping import Float
from torch import Tensor

from mdtdist.flow import ConsistencySampler, EulerSampler, Sampler

TEACHER_STEPS = 64
SAMPLERS: dict[str, type[EulerSampler] | type[ConsistencySampler]] = {
    "Euler": EulerSampler,
    "consistency": ConsistencySampler,
}
GUIDANCE_SHOWN = 2.0


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Noise to start from and what to compare with, classes side by side.

    Attributes:
        noise, cond: what samples are drawn from.
        data: as many points of the board, of the same classes.
        teacher: the teacher's many-step samples from ``noise``.
    """

    noise: Float[Tensor, "N 2"]
    cond: Float[Tensor, "N 2"]
    data: Float[Tensor, "N 2"]
    teacher: Float[Tensor, "N 2"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Figures of samples: energy distance to the data, share off the squares, RMS distance to the teacher's."""

    energy: float
    off_board: float
    paired: float


def make_exam(teacher: Network, num: int, seed: int) -> Exam:
    """An exam; another seed asks other questions."""
    generator = torch.Generator().manual_seed(seed)
    x_0, classes = sample_board(2 * num, generator)
    data = torch.cat([x_0[classes == c][: num // CLASSES] for c in range(CLASSES)])
    sizes = [min(num // CLASSES, int((classes == c).sum())) for c in range(CLASSES)]
    cond = one_hot(torch.repeat_interleave(torch.arange(CLASSES), torch.tensor(sizes)))
    noise = torch.randn(len(cond), 2, generator=generator)
    sampler = EulerSampler(steps=TEACHER_STEPS)
    with torch.no_grad():
        samples = sampler.sample(teacher_field(teacher, cond), noise, num_samples=len(cond)).x
    return Exam(noise=noise, cond=cond, data=data, teacher=samples)


@torch.no_grad()
def draw_samples(network: Network, exam: Exam, sampler: Sampler) -> Float[Tensor, "R N 2"]:
    """Samples of every run of a network, all from the noise of the exam."""
    runs = len(network.weights[0])
    cond, noise = exam.cond.repeat(runs, 1), exam.noise.repeat(runs, 1)
    generator = torch.Generator().manual_seed(0)
    x = sampler.sample(field_of(network, cond), noise, num_samples=len(noise), generator=generator).x
    return x.view(runs, len(exam.noise), 2)


def score(samples: Float[Tensor, "N 2"], exam: Exam) -> Score:
    """The figures of one run's samples."""
    pairs = zip(samples.chunk(CLASSES), exam.data.chunk(CLASSES), strict=True)
    energy = sum(energy_distance(a, b) for a, b in pairs) / CLASSES
    paired = (samples - exam.teacher).square().mean().sqrt().item()
    return Score(energy=energy, off_board=1 - is_on_board(samples).float().mean().item(), paired=paired)


def energy_distance(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> float:
    """``2 E|a - b| - E|a - a'| - E|b - b'|``, unbiased: near zero, on either side, for equal distributions."""

    def within(x: Tensor) -> Tensor:
        return torch.cdist(x, x).sum() / (len(x) * (len(x) - 1))

    return (2 * torch.cdist(a, b).mean() - within(a) - within(b)).item()
