"""Validation of one student: Frechet distance and paired distance to the teacher's many-step samples.

Run as ``python validate.py PLAN STAGE STUDENT``; prints json. The teacher's samples are made once and kept.
"""

import json
import sys
from pathlib import Path

import torch
from jaxtyping import Float
from plan import Plan, StagePlan, read_plan
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mdtdist.evaluation.metrics.frechet import fit_gaussian, frechet_distance
from mdtdist.files import appear_whole
from mdtdist.flow import EulerSampler, Guidance, Layout, PackedLayout
from mdtdist.models import extra_embeddings, load
from mdtdist.training.config import from_dict
from mdtdist.training.flow import make_batches
from mdtdist.training.latent_batches import LatentBatches, StageData

TEACHER_STEPS, RESCALE_T = 25, 3.0


def moments(x: Float[Tensor, "..."], layout: Layout) -> Float[Tensor, "B D"]:
    """What the Frechet distance of a stage is taken of: per sample and channel, mean, spread and coarse layout.

    A blurred sample has too small a spread, which the mean square distance to anything would not show.
    """
    if isinstance(layout, PackedLayout):
        parts = x.split(list(layout.lengths))
        return torch.stack([torch.cat([part.mean(0), part.std(0), part.abs().mean(0)]) for part in parts]).double()
    coarse = torch.nn.functional.avg_pool3d(x, x.shape[-1] // 2).flatten(1)
    return torch.cat([coarse, x.flatten(2).std(2)], dim=1).double()


def reference(plan: Plan, stage: str, batches: LatentBatches) -> list[Tensor]:
    """The teacher's samples of all validation batches, from the noise that students get too."""
    path = plan.out / stage / "reference.safetensors"
    if not path.exists():
        settings = plan.stages[stage].distil
        low, high = settings["guidance_interval"]
        guidance = Guidance(w=settings["guidance"], interval=(low, high))
        euler = EulerSampler(steps=TEACHER_STEPS, rescale_t=RESCALE_T, guidance=guidance)
        teacher = load(settings["teacher"])
        drawn = [batch.sample(teacher, euler, generator) for batch, generator in batches.validation()]
        path.parent.mkdir(parents=True, exist_ok=True)
        with appear_whole(path) as partial:
            save_file({f"{i:03d}": samples.contiguous() for i, samples in enumerate(drawn)}, partial)
    stored = load_file(path)
    return [stored[key] for key in sorted(stored)]


def sampler(stage: StagePlan, network: nn.Module, steps: int) -> EulerSampler:
    """How a student is sampled: it is told interval and guidance if it takes them."""
    takes = extra_embeddings(network)
    guidance = Guidance(w=stage.distil["guidance"]) if "guidance" in takes else Guidance()
    return EulerSampler(steps=steps, guidance=guidance, takes=takes)


@torch.no_grad()
def validate(plan: Plan, stage: str, student: Path, *, steps: tuple[int, ...] = (1, 2)) -> dict[str, float]:
    """Figures of a student for each number of steps."""
    data = from_dict(StageData, plan.stages[stage].distil["data"])
    batches = make_batches(data, seed=0, device="cpu")
    references = reference(plan, stage, batches)
    network, figures = load(student), {}
    for num in steps:
        distances, features, wanted = [], [], []
        for (batch, generator), expected in zip(batches.validation(), references, strict=True):
            samples = batch.sample(network, sampler(plan.stages[stage], network, num), generator)
            distances.append(batch.layout.rms(samples - expected))
            features.append(moments(samples, batch.layout))
            wanted.append(moments(expected, batch.layout))
        figures[f"paired_{num}"] = float(torch.cat(distances).mean())
        fits = [fit_gaussian(torch.cat(part).numpy()) for part in (features, wanted)]
        figures[f"frechet_{num}"] = frechet_distance(*fits[0], *fits[1])
    return figures


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(validate(read_plan(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3]))))
