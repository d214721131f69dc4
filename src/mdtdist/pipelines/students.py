"""Distilled flows from elsewhere, put beside the teacher of a model: a model folder, checkpoints, or single files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.models.registry import NetworkFiles
from mdtdist.models.weights import TensorInfo, check_fit, read_header
from mdtdist.pipelines.config import CONFIG_NAME, FLOW_ROLES, PipelineConfig, SamplerConfig, Stage, flow_role

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
_CLASSES: dict[str, Stage] = {"SparseStructureFlowModel": "structure", "SLatFlowModel": "latent"}


def with_students(config: PipelineConfig, sources: Sequence[Path]) -> PipelineConfig:
    """A model whose student flows are those found in ``sources``.

    Args:
        config: of the teacher, as ``PipelineConfig.read`` returned it.
        sources: each a model folder, a folder with checkpoints, or one safetensors file (from ``resolve_student``). A
            file without a json beside it is taken for the teacher's architecture. Where no student of one stage is
            found, the teacher's flow and its sampler stand in for it.

    Raises:
        InputError: if a source has no student of this teacher, or two are for the same stage.
    """
    found: dict[Stage, Path] = {}
    samplers: dict[Stage, SamplerConfig] = {}
    for source in sources:
        there = find_students(config, source)
        if twice := found.keys() & there.keys():
            stage = sorted(twice)[0]
            raise InputError(f"{found[stage]} and {there[stage]} are both students of the {stage} flow; give one")
        found |= there
        if (source / CONFIG_NAME).is_file():
            own = PipelineConfig.parse(source)
            samplers |= {stage: own.samplers["student", stage] for stage in there}
    return _add(config, found, samplers)


def _add(
    config: PipelineConfig, students: Mapping[Stage, Path], samplers: Mapping[Stage, SamplerConfig] | None = None
) -> PipelineConfig:
    """A model with these networks in the roles of the students.

    Args:
        config: of the teacher.
        students: safetensors file per stage; the teacher stands in for a stage without one.
        samplers: of the students; where there is none, one step without guidance, for students have learned it, or
            with the teacher's weight for one that embeds it.
    """
    if not students:
        raise InputError("no student was given; expected one for the structure or for the latent flow")
    models, changed = dict(config.models), dict(config.samplers)
    for stage in FLOW_ROLES:
        role = flow_role(stage, "student")
        if stage in students:
            models[role] = str(students[stage].absolute())
            teacher = config.samplers["teacher", stage]
            w = teacher.cfg_strength if _embeds_guidance(students[stage]) else 0.0
            plain = SamplerConfig(steps=1, cfg_strength=w, sigma_min=teacher.sigma_min)
            changed["student", stage] = (samplers or {}).get(stage, plain)
        else:
            models[role] = models[flow_role(stage, "teacher")]
            changed["student", stage] = config.samplers["teacher", stage]
    return replace(config, models=models, samplers=changed)


def _embeds_guidance(weights: Path) -> bool:
    files = NetworkFiles(weights.with_suffix(".json"), weights)
    return files.config.is_file() and "guidance" in files.read_config()["args"].get("extra_embeddings", ())


def find_students(config: PipelineConfig, source: Path) -> dict[Stage, Path]:
    """The safetensors files of students in a file or folder, by stage.

    Raises:
        InputError: if there is none, more than one for a stage, or one that does not fit the teacher.
    """
    if source.is_file():
        return {stage_of_file(config, source): source}
    if (source / CONFIG_NAME).is_file():
        return _students_of_model(config, PipelineConfig.parse(source))
    files = sorted(source.rglob("*.safetensors"))
    described = [file for file in files if file.with_suffix(".json").is_file()]
    found: dict[Stage, Path] = {}
    for file in described or files:
        if described and _class_name(file) not in _CLASSES:
            continue  # an encoder or decoder of the same folder
        stage = stage_of_file(config, file)
        if stage in found:
            raise InputError(f"{found[stage]} and {file} are both students of the {stage} flow; give the file you mean")
        found[stage] = file
    if not found:
        pickle = next((file for file in sorted(source.rglob("*")) if file.suffix in PICKLES), None)
        hint = f"it has {pickle.name}: use 'mdtdist convert' first" if pickle else "expected safetensors files"
        raise InputError(f"{source} has no student flows; {hint}")
    return found


def stage_of_file(config: PipelineConfig, file: Path) -> Stage:
    """Which flow a checkpoint is a student of.

    Raises:
        InputError: if it is no safetensors file or fits neither flow; names the first tensor that is wrong.
    """
    if file.suffix in PICKLES:
        raise InputError(f"{file} is a pickle, which may hold code; make it safetensors with 'mdtdist convert'")
    if file.suffix != ".safetensors":
        raise InputError(f"{file} is no student; expected a .safetensors file or a folder")
    header = read_header(file)
    if file.with_suffix(".json").is_file():
        name = _class_name(file)
        if name not in _CLASSES:
            raise InputError(f"{file.with_suffix('.json')} describes {name!r}; expected one of {', '.join(_CLASSES)}")
        files = NetworkFiles(file.with_suffix(".json"), file)
        check_fit(header, files.skeleton().state_dict(), file)
        return _CLASSES[name]
    return stage_of_tensors(config, header, file)


def stage_of_tensors(config: PipelineConfig, tensors: Mapping[str, TensorInfo], where: Path) -> Stage:
    """Which of the teacher's flows has tensors of these names and shapes.

    Raises:
        InputError: if neither has; names the first tensor that does not fit the flow with more names in common.
    """
    expected: dict[Stage, dict[str, Tensor]] = {
        stage: config.files(flow_role(stage, "teacher")).skeleton().state_dict() for stage in FLOW_ROLES
    }
    nearest = max(expected, key=lambda stage: len(tensors.keys() & expected[stage].keys()))
    if not tensors.keys() & expected[nearest].keys():
        names = ", ".join(list(tensors)[:3])
        raise InputError(f"{where} is no flow of this model: none of its tensors ({names} ...) has a name that fits")
    check_fit(tensors, expected[nearest], where)
    return nearest


def _students_of_model(config: PipelineConfig, other: PipelineConfig) -> dict[Stage, Path]:
    """The students of another model; its flows as such if it only has one pair."""
    assert other.folder is not None
    if not other.flows:
        raise InputError(f"{other.folder} has no pair of flows; expected {', '.join(FLOW_ROLES.values())}")
    for name in ("time_scale", "slat_mean", "slat_std"):
        if getattr(other, name) != getattr(config, name):
            raise InputError(f"{name} of {other.folder} differs from {config.folder}; expected students of one teacher")
    return {stage: other.files(flow_role(stage, other.flows[0])).weights for stage in FLOW_ROLES}


def _class_name(file: Path) -> str:
    config = NetworkFiles(file.with_suffix(".json"), file).read_config()
    return str(config["name"]).removeprefix("Elastic")
