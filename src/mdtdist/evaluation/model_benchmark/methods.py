"""Ways to generate that are compared: whose flows, how many steps, with or without guidance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.flow import EulerSampler, Trajectory
from mdtdist.models import extra_embeddings, network_args, sparse_velocity_field, velocity_field
from mdtdist.pipelines import ImageTo3D, PipelineConfig
from mdtdist.pipelines.config import FLOW_ROLES, Flows, Stage

TEACHER = ""
_ROLES = tuple(FLOW_ROLES.values())
TEACHER_STEPS = ((25, 25), (4, 4), (2, 2), (1, 1))
STUDENT_STEPS = ((1, 1), (2, 2))


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to generate.

    Attributes:
        suffix: of the flow roles in ``pipeline.json``: "" for the teacher, "_student", "_student_paper".
        steps: Euler steps of the structure and of the latent flow.
        guided: with the guidance weights of ``pipeline.json``, else with none.
    """

    suffix: str
    steps: tuple[int, int]
    guided: bool

    @property
    def is_teacher(self) -> bool:
        """Whether these are the teacher's flows."""
        return self.suffix == TEACHER

    @property
    def name(self) -> str:
        """For example ``teacher 25+25 guided`` or ``student 1+1``: steps of the structure and of the latent flow."""
        who = self.suffix.strip("_").replace("_", " ") or "teacher"
        how = (" guided" if self.guided else " unguided") if self.is_teacher else (" guided" if self.guided else "")
        return f"{who} {self.steps[0]}+{self.steps[1]}{how}"

    def stage(self, stage: Stage) -> tuple[str, int, bool]:
        """What decides the result of one stage: methods that agree in it share the stage."""
        return self.suffix, self.steps[0 if stage == "structure" else 1], self.guided


REFERENCE = Method(suffix=TEACHER, steps=(25, 25), guided=True)


def student_suffixes(config: PipelineConfig) -> list[str]:
    """Suffixes of the students in a model folder, in the order of ``pipeline.json``."""
    role = FLOW_ROLES["structure"]
    suffixes = [name.removeprefix(role) for name in config.models if name.startswith(role + "_student")]
    return [suffix for suffix in suffixes if FLOW_ROLES["latent"] + suffix in config.models]


def add_students(pipe: ImageTo3D, label: str, folder: Path) -> None:
    """Compare the students of another model folder too; they get the suffix ``_student_<label>``.

    Raises:
        InputError: if the folder has no students, or they were made for other latents or times.
    """
    other = PipelineConfig.read(folder)
    if "_student" not in student_suffixes(other):
        raise InputError(f"{folder} has no student flows; expected a model folder with both")
    for name in ("time_scale", "slat_mean", "slat_std"):
        if getattr(other, name) != getattr(pipe.config, name):
            raise InputError(
                f"{name} of {folder} differs from that of {pipe.model_id}; expected students of one teacher"
            )
    # An absolute path wins over the folder that the pipeline joins in front.
    roles = {f"{role}_student_{label}": str((folder / other.models[f"{role}_student"]).resolve()) for role in _ROLES}
    pipe.config = replace(pipe.config, models={**pipe.config.models, **roles})


def list_methods(config: PipelineConfig, *, students: Sequence[str] | None = None) -> list[Method]:
    """The methods of the protocol that a model can run, the reference first.

    Students run without guidance: what they learned is inside the network. A teacher whose weights are 0 has no
    guided and unguided variants; its runs are called guided.

    Args:
        config: of the model.
        students: role suffixes of the students; None for all that the model has.

    Raises:
        InputError: if a student is not there.
    """
    there = student_suffixes(config)
    if missing := [suffix for suffix in students or () if suffix not in there]:
        raise InputError(f"the model has no student {missing[0]!r}; expected one of {', '.join(there) or 'none'}")
    is_guided = any(config.samplers["teacher", stage].cfg_strength for stage in FLOW_ROLES)
    variants = (True, False) if is_guided else (True,)
    teacher = [Method(suffix=TEACHER, steps=steps, guided=guided) for guided in variants for steps in TEACHER_STEPS]
    chosen = there if students is None else students
    return teacher + [Method(suffix=suffix, steps=steps, guided=False) for suffix in chosen for steps in STUDENT_STEPS]


def grid_resolution(pipe: ImageTo3D) -> int:
    """Voxels a side of the model's structure."""
    return int(network_args(pipe.network("slat_decoder_gs"))["resolution"])


def sampler_for(pipe: ImageTo3D, method: Method, stage: Stage) -> EulerSampler:
    """The sampler of one stage; a network that embeds its guidance is told that of the model."""
    flows: Flows = "teacher" if method.is_teacher else "student"
    takes = extra_embeddings(pipe.network(FLOW_ROLES[stage] + method.suffix))
    w = None if method.guided or "guidance" in takes else 0.0
    return pipe.config.samplers[flows, stage].sampler(steps=method.stage(stage)[1], cfg_strength=w, takes=takes)


@torch.no_grad()
def sample_structure(
    pipe: ImageTo3D, method: Method, cond: Float[Tensor, "B L C"], noise: Float[Tensor, "B c r r r"]
) -> Trajectory:
    """Run the structure flow of a method."""
    network = pipe.network(FLOW_ROLES["structure"] + method.suffix)
    field = partial(velocity_field, network, time_scale=pipe.config.time_scale)
    sampler = sampler_for(pipe, method, "structure")
    return sampler.sample(field(cond), noise, num_samples=len(cond), negative=field(torch.zeros_like(cond)))


@torch.no_grad()
def sample_latent(
    pipe: ImageTo3D,
    method: Method,
    cond: Float[Tensor, "B L C"],
    coords: Int[Tensor, "N 4"],
    noise: Float[Tensor, "N c"],
) -> Trajectory:
    """Run the latent flow of a method on given voxels; the result is normalised."""
    network = pipe.network(FLOW_ROLES["latent"] + method.suffix)
    field = partial(sparse_velocity_field, network, coords=coords, time_scale=pipe.config.time_scale)
    sampler = sampler_for(pipe, method, "latent")
    return sampler.sample(field(cond), noise, num_samples=len(cond), negative=field(torch.zeros_like(cond)))
