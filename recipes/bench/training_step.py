"""One training step of every method against the forwards and backwards it is made of.

    python recipes/bench/training_step.py [--teacher PATH] [--batch 16] [--device cpu] [--repeats 5]

Every method runs as the trainer runs it, on random latents and conditions of the teacher's shape. The sum is that of
its stated evaluations (``config.cost``), each timed alone on the same batch: a pass without gradients, a pass with its
backward, and the optimiser's step. Overhead is what the step takes beyond that. Memory is the peak of one step: on a
GPU of the allocator, on a CPU of the process, less what it had before.
"""

import argparse
import copy
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdtdist.flow import DenseLayout, Guidance, guided_field
from mdtdist.models import EXTRA_EMBEDDINGS, load, logit_field, network_args, velocity_field, with_extra_embeddings
from mdtdist.objectives import OBJECTIVES, Fields, Latents, Objective, TeacherTrajectory
from mdtdist.training.companions import make_companions
from mdtdist.training.distil import merge_options

# Exact derivatives are compared by their stated cost, two forwards, only where the network has a fast rule for them.
OPTIONS: dict[str, dict[str, Any]] = {
    "mdt": {"guidance_vm": None, "guidance_vd": None},
    "scm": {"derivative": {"kind": "backward"}},
    "meanflow": {"derivative": {"kind": "backward"}},
}


class Step:
    """One step of a method: the losses of all its networks, their gradients and their optimisers."""

    def __init__(self, name: str, teacher: nn.Module, path: Path, batch: int, device: str) -> None:
        self.objective: Objective = OBJECTIVES[name]
        self.config = merge_options(name, "paper", OPTIONS.get(name, {}))
        names = sorted(self.config.needs & set(EXTRA_EMBEDDINGS))
        student = with_extra_embeddings(load(path, device=device).requires_grad_(True), names)
        others = make_companions(self.config, student=student, teacher=teacher, seed=0)
        self.networks = {"student": student, **others}
        self.teacher = teacher
        trained = [other for other in self.objective.losses if other in others]
        self.turns = (*(trained * getattr(self.config, "updates", 1)), "student")
        self.optimizers = {turn: _adam(self.networks[turn]) for turn in set(self.turns)}
        args = network_args(teacher)
        shape = (batch, args["in_channels"], *[args["resolution"]] * 3)
        self.cond = torch.randn(batch, 49, args["cond_channels"], device=device)
        self.x_0 = torch.randn(shape, device=device)
        self.trajectory = TeacherTrajectory(times=(1.0, 0.0), states=(torch.randn_like(self.x_0), self.x_0))

    def run(self) -> None:
        for turn, name in enumerate(self.turns):
            layout = DenseLayout(len(self.x_0))
            latents = Latents(x_0=self.x_0, layout=layout, trajectory=self.trajectory)
            generator = torch.Generator().manual_seed(turn)
            loss = self.objective.losses[name](self._fields(), latents, config=self.config, generator=generator)
            update(self.optimizers[name], loss.loss.mean())

    def _fields(self) -> Fields:
        field = partial(velocity_field, time_scale=60.0)
        conditional, negative = field(self.teacher, self.cond), field(self.teacher, torch.zeros_like(self.cond))
        guided = guided_field(conditional, negative, Guidance(w=1.0), expand=DenseLayout(len(self.x_0)).expand)
        make = {"discriminator": partial(logit_field, coords=None, time_scale=60.0)}
        others = {name: make.get(name, field)(network, self.cond) for name, network in self.networks.items()}
        return Fields(teacher=guided, **others)


def _adam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.0)


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Gradients of a loss and a step."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def seconds(function: Callable[[], None], device: str, repeats: int) -> float:
    """Median over the repeats, after one run to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def parts(step: Step, device: str, repeats: int) -> dict[str, float]:
    """Seconds of a pass without gradients, of one with its backward, and of an optimiser's step."""
    network, t = copy.deepcopy(step.teacher).requires_grad_(True), torch.full((len(step.x_0),), 30.0, device=device)
    optimizer = _adam(network)

    @torch.no_grad()
    def forward() -> None:
        network(step.x_0, t, step.cond)

    def both() -> None:
        optimizer.zero_grad(set_to_none=True)
        network(step.x_0, t, step.cond).square().mean().backward()

    return {
        "forward": seconds(forward, device, repeats),
        "grad": seconds(both, device, repeats),
        "optimizer": seconds(optimizer.step, device, repeats),
    }


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    torch.set_num_threads(args.threads)
    teacher = load(args.teacher, device=args.device).requires_grad_(False)
    step = Step(name, teacher, args.teacher, args.batch, args.device)
    peak = peak_memory(step, args.device)
    single = parts(step, args.device, args.repeats)
    cost = step.config.cost
    passes = cost.student + 2 * cost.teacher + cost.fake + cost.features
    grads = cost.student_grad + cost.teacher_grad + cost.fake_grad
    expected = passes * single["forward"] + grads * single["grad"] + len(step.turns) * single["optimizer"]
    taken = seconds(step.run, args.device, args.repeats)
    return {
        "method": name,
        "forwards": cost.forwards(),
        "passes": passes,
        "passes_with_gradients": grads,
        "seconds": round(taken, 4),
        "sum_of_parts": round(expected, 4),
        "overhead": round(taken / expected - 1, 3),
        "peak_mib": peak,
    }


def peak_memory(step: Step, device: str) -> int:
    """MiB that the first step takes beyond what was there before it."""
    if not device.startswith("cuda"):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        step.run()
        return round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step.run()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path("src/mdtdist/assets/mini/ckpts/ss_flow")
    parser.add_argument("--teacher", type=Path, default=default, help="structure flow without suffix")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    args = parser.parse_args()
    for name in args.methods:
        # A process of its own for each: the largest size of a process never shrinks.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(json.dumps(pool.apply(measure, (name, args))), flush=True)


if __name__ == "__main__":
    main()
