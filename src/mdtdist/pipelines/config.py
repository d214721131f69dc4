"""``pipeline.json``: which networks, samplers and normalisation make a model (official TRELLIS layout)."""

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from torch import nn

from mdtdist.errors import InputError
from mdtdist.files import appear_whole
from mdtdist.flow import EulerSampler, Guidance, LinearPath
from mdtdist.models import TIME_SCALE, save
from mdtdist.models.registry import NetworkFiles
from mdtdist.pipelines.hub import HubId, snapshot

Flows = Literal["student", "teacher"]
Stage = Literal["structure", "latent"]

CONFIG_NAME = "pipeline.json"
PIPELINE_NAME = "TrellisImageTo3DPipeline"
TEXT_PIPELINE_NAME = "TrellisTextTo3DPipeline"
STRUCTURE_DECODER = "sparse_structure_decoder"
# Each turns the structured latent into something else; a model has at least one.
LATENT_DECODERS = ("slat_decoder_gs", "slat_decoder_mesh", "slat_decoder_rf")
FLOW_ROLES: dict[Stage, str] = {"structure": "sparse_structure_flow_model", "latent": "slat_flow_model"}
_SAMPLER_KEYS: dict[Stage, str] = {"structure": "sparse_structure_sampler", "latent": "slat_sampler"}
_SAMPLER_NAME = "FlowEulerGuidanceIntervalSampler"
# The official sampler classes and the parameters that each knows.
_SAMPLER_PARAMETERS = {
    "FlowEulerSampler": {"steps", "rescale_t"},
    "FlowEulerCfgSampler": {"steps", "rescale_t", "cfg_strength"},
    _SAMPLER_NAME: {"steps", "rescale_t", "cfg_strength", "cfg_interval"},
}


def flow_role(stage: Stage, flows: Flows) -> str:
    """The key in ``models`` of a flow; the teacher has the official one, the student the suffix ``_student``."""
    return FLOW_ROLES[stage] + ("_student" if flows == "student" else "")


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How one stage is sampled; the defaults are those of TRELLIS where ``pipeline.json`` says nothing.

    Attributes:
        steps: Euler steps.
        rescale_t: time warp.
        cfg_strength: guidance weight added on top of one (w); 0 is no guidance. A network that embeds it is told, at
            every time and for no evaluation more.
        cfg_interval: times (1 = noise) between which guidance is on.
        sigma_min: noise left at t = 0 of the path.
    """

    steps: int = 50
    rescale_t: float = 1.0
    cfg_strength: float = 3.0
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    sigma_min: float = 1e-5

    def __post_init__(self) -> None:
        if type(self.steps) is not int or self.steps < 1:
            raise InputError(f"steps is {self.steps!r}; expected a whole number from 1 up")
        if len(self.cfg_interval) != 2:
            raise InputError(f"cfg_interval is {self.cfg_interval}; expected two times")
        for name in ("rescale_t", "cfg_strength", "sigma_min"):
            if not _is_number(getattr(self, name)):
                raise InputError(f"{name} is {getattr(self, name)!r}; expected a number")

    def sampler(
        self, *, steps: int | None = None, cfg_strength: float | None = None, takes: frozenset[str] = frozenset()
    ) -> EulerSampler:
        """The sampler, with another number of steps or guidance weight if given.

        Args:
            takes: what the network embeds beside the time (``models.extra_embeddings``).
        """
        w = self.cfg_strength if cfg_strength is None else cfg_strength
        return EulerSampler(
            steps=steps or self.steps,
            rescale_t=self.rescale_t,
            guidance=Guidance(w=w, interval=self.cfg_interval),
            path=LinearPath(sigma_min=self.sigma_min),
            takes=takes,
        )

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "SamplerConfig":
        """Read a sampler entry of ``pipeline.json``.

        Raises:
            InputError: for a sampler or parameter that we do not have: results would differ in silence.
        """
        name, params = entry.get("name", _SAMPLER_NAME), dict(entry.get("params", {}))
        known = _SAMPLER_PARAMETERS.get(name)
        if known is None:
            raise InputError(f"the sampler {name!r} is unknown; expected one of {', '.join(_SAMPLER_PARAMETERS)}")
        if unknown := set(params) - known:
            raise InputError(f"unknown parameters {sorted(unknown)} of the sampler {name}; expected {sorted(known)}")
        if name == "FlowEulerSampler":
            params["cfg_strength"] = 0.0
        if "cfg_interval" in params:
            params["cfg_interval"] = tuple(params["cfg_interval"])
        return replace(cls(**params), **entry.get("args", {}))

    def to_json(self) -> dict[str, Any]:
        """A sampler entry of ``pipeline.json``."""
        params = {name: getattr(self, name) for name in ("steps", "cfg_strength", "cfg_interval", "rescale_t")}
        return {
            "name": _SAMPLER_NAME,
            "args": {"sigma_min": self.sigma_min},
            "params": params | {"cfg_interval": list(self.cfg_interval)},
        }


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """The content of ``pipeline.json``.

    The official keys are all there is in an official file. Ours add ``student`` (samplers of the student flows, whose
    networks have roles with the suffix ``_student``), ``time_scale`` and ``default_decoders``.

    Attributes:
        models: role -> path without suffix, relative to the folder; or ``owner/name[@revision]/path`` on the hub; or
            the path of one safetensors file, whose json is the teacher's of that stage unless it has its own beside it.
        samplers: per flows and stage.
        slat_mean: per-channel mean of the structured latent.
        slat_std: per-channel standard deviation of the structured latent.
        image_cond_model: the image encoder: a name such as ``dinov2_vitl14_reg``, or the path without suffix of one
            in a subfolder. Empty for a model of text.
        text_cond_model: the text encoder, a hub id. Empty for a model of images.
        time_scale: network time at pure noise; 1000 for the published TRELLIS checkpoints.
        default_decoders: what a call decodes unless it says otherwise, of "gs", "mesh", "rf"; empty for Gaussians and
            mesh, as far as they are there.
        folder: where it was read; None before that.
    """

    models: Mapping[str, str]
    samplers: Mapping[tuple[Flows, Stage], SamplerConfig]
    slat_mean: tuple[float, ...]
    slat_std: tuple[float, ...]
    image_cond_model: str = ""
    text_cond_model: str = ""
    time_scale: float = TIME_SCALE
    default_decoders: tuple[str, ...] = ()
    folder: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if bool(self.image_cond_model) == bool(self.text_cond_model):
            raise InputError("expected one of image_cond_model and text_cond_model")
        if len(self.slat_mean) != len(self.slat_std) or not self.slat_mean:
            raise InputError(f"slat_normalization has {len(self.slat_mean)} means and {len(self.slat_std)} deviations")
        if not all(_is_number(value) for value in (*self.slat_mean, *self.slat_std, self.time_scale)):
            raise InputError("slat_normalization or time_scale holds something that is no finite number")
        if missing := [name for name in self.default_decoders if f"slat_decoder_{name}" not in self.decoders]:
            raise InputError(f"default_decoders names {missing[0]!r}, but there is no slat_decoder_{missing[0]}")

    @property
    def name(self) -> str:
        """The official class name."""
        return PIPELINE_NAME if self.image_cond_model else TEXT_PIPELINE_NAME

    @property
    def flows(self) -> tuple[Flows, ...]:
        """The pairs of flows that are there, the student first."""
        pairs: tuple[Flows, ...] = ("student", "teacher")
        return tuple(flows for flows in pairs if all(flow_role(stage, flows) in self.models for stage in FLOW_ROLES))

    @property
    def decoders(self) -> tuple[str, ...]:
        """The roles of the latent decoders that are there."""
        return tuple(role for role in LATENT_DECODERS if role in self.models)

    # ------------------------------------------------------------------------------------------------- the networks

    def files(self, role: str, *, offline: bool = True) -> NetworkFiles:
        """The two files of a role, of ``image_cond_model`` too if it is a path.

        Args:
            role: a key of ``models``, or "image_cond_model".
            offline: look for what is on the hub in the local cache only, where ``resolve_model`` has put it.

        Raises:
            InputError: if a file on the hub cannot be had. Whether local files exist is seen when they are read.
        """
        assert self.folder is not None, "a PipelineConfig that was not read has no files"
        reference = self._reference(role)
        if reference.endswith(".safetensors"):
            files = NetworkFiles.at(self.folder / reference.removesuffix(".safetensors"))
            teacher = role.partition("_student")[0]
            return files if files.config.is_file() else NetworkFiles(self.files(teacher).config, files.weights)
        source = self._hub_source(reference)
        if source is None:
            return NetworkFiles.at(self.folder / reference)
        folder = snapshot(source, [f"{source.path}.json", f"{source.path}.safetensors"], offline=offline)
        return NetworkFiles.at(folder / source.path)

    def checkpoint_roles(self) -> list[str]:
        """Every role with files: those of ``models``, and the image encoder if it is a path and not a name."""
        return [*self.models, *(["image_cond_model"] if self._is_path(self.image_cond_model) else [])]

    def _reference(self, role: str) -> str:
        return self.image_cond_model if role == "image_cond_model" else self.models[role]

    def _is_path(self, reference: str) -> bool:
        """Whether a reference means something in the folder: its first part is a folder there."""
        first, slash, _ = reference.partition("/")
        return self.folder is not None and bool(slash) and (self.folder / first).is_dir()

    def _hub_source(self, reference: str) -> HubId | None:
        """The place on the hub that a reference means; None if it means a path."""
        source = None if self.folder is None or self._is_path(reference) else HubId.parse(reference)
        return source if source and source.path else None

    # ----------------------------------------------------------------------------------------------------- the file

    @classmethod
    def read(cls, folder: Path) -> "PipelineConfig":
        """Read ``folder/pipeline.json``. What it names on the hub has to be in the cache (see ``resolve_model``).

        Raises:
            InputError: if it is no valid description, or a file it names is missing.
        """
        config = cls.parse(folder)
        path = folder / CONFIG_NAME
        missing = [] if STRUCTURE_DECODER in config.models else [STRUCTURE_DECODER]
        missing += [] if config.decoders else [" or ".join(LATENT_DECODERS)]
        missing += [] if config.flows else list(FLOW_ROLES.values())
        if missing:
            raise InputError(f"{path} lacks the models {', '.join(missing)}; expected all of them")
        for role in config.checkpoint_roles():
            try:
                files = config.files(role)
            except InputError as err:
                raise InputError(f"{path}: {role}: {err}") from err
            for file in (files.config, files.weights):
                if not file.is_file():
                    name = file.relative_to(folder) if file.is_relative_to(folder) else file
                    raise InputError(f"{path} names {name}, which is missing; copy the whole model folder")
        return config

    @classmethod
    def parse(cls, folder: Path) -> "PipelineConfig":
        """Read ``folder/pipeline.json`` without asking whether it is complete and its files are there.

        Raises:
            InputError: if it is no valid description.
        """
        path = folder / CONFIG_NAME
        try:
            config = cls._from_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
            cause = str(err) if isinstance(err, InputError) else f"{type(err).__name__}: {err}"
            raise InputError(f"{path} does not describe a model ({cause}); expected the TRELLIS layout") from err
        return replace(config, folder=folder)

    @classmethod
    def _from_json(cls, content: Mapping[str, Any]) -> "PipelineConfig":
        args = content["args"]
        if content.get("name", PIPELINE_NAME) not in (PIPELINE_NAME, TEXT_PIPELINE_NAME):
            known = f"{PIPELINE_NAME} or {TEXT_PIPELINE_NAME}"
            raise InputError(f"the pipeline {content['name']!r} is unknown; expected {known}")
        models = dict(args["models"])
        if not all(isinstance(value, str) and value for value in models.values()):
            raise InputError("models holds something that is no path")
        return cls(
            models=models,
            samplers=_parse_samplers(args),
            slat_mean=tuple(args["slat_normalization"]["mean"]),
            slat_std=tuple(args["slat_normalization"]["std"]),
            image_cond_model=args.get("image_cond_model") or "",
            text_cond_model=args.get("text_cond_model") or "",
            time_scale=float(args.get("time_scale", TIME_SCALE)),
            default_decoders=tuple(args.get("default_decoders", ())),
        )

    def to_json(self) -> dict[str, Any]:
        """The content of ``pipeline.json``; without students it has the official keys only."""
        args: dict[str, Any] = {"models": dict(self.models)}
        args |= {key: self.samplers["teacher", stage].to_json() for stage, key in _SAMPLER_KEYS.items()}
        args["slat_normalization"] = {"mean": list(self.slat_mean), "std": list(self.slat_std)}
        if self.image_cond_model:
            args["image_cond_model"] = self.image_cond_model
        else:
            args["text_cond_model"] = self.text_cond_model
        if self.time_scale != TIME_SCALE:
            args["time_scale"] = self.time_scale
        if self.default_decoders:
            args["default_decoders"] = list(self.default_decoders)
        if "student" in self.flows:
            args["student"] = {key: self.samplers["student", stage].to_json() for stage, key in _SAMPLER_KEYS.items()}
        return {"name": self.name, "args": args}

    def save_pretrained(
        self, folder: str | os.PathLike[str], *, networks: Mapping[str, nn.Module] | None = None
    ) -> "PipelineConfig":
        """Write a model folder: the checkpoints, then ``pipeline.json``; each file appears whole.

        Networks keep their relative paths, those from elsewhere on this disk come to ``ckpts/<role>``, and what is on
        the hub stays a reference.

        Args:
            folder: made if it is missing.
            networks: by role, from ``models.build``; written instead of the files that were read. For a description
                that was not read, every file that is not given has to be in the folder already.

        Returns:
            The description of the new folder.

        Raises:
            InputError: if the folder cannot be written, or lacks a file in the end.
        """
        target, models, given = Path(folder), dict(self.models), networks or {}
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise InputError(f"cannot make the folder {target} ({err.strerror}); choose another place") from err
        for role in self.models if self.folder is None else self.checkpoint_roles():
            reference = self._reference(role)
            is_remote = self._hub_source(reference) is not None
            base = f"ckpts/{role}" if is_remote or not _stays_inside(reference) else reference
            if role in given:
                save(given[role], target / base)
            elif is_remote:
                continue
            elif self.folder is not None:
                _copy(self.files(role), NetworkFiles.at(target / base))
            models[role] = base
        image_cond_model = models.pop("image_cond_model", self.image_cond_model)
        config = replace(self, models=models, image_cond_model=image_cond_model)
        with appear_whole(target / CONFIG_NAME) as partial:
            partial.write_text(json.dumps(config.to_json(), indent=2) + "\n")
        return PipelineConfig.read(target)


def _parse_samplers(args: Mapping[str, Any]) -> dict[tuple[Flows, Stage], SamplerConfig]:
    sections: dict[Flows, Mapping[str, Any]] = {"teacher": args}
    if "student" in args:
        sections["student"] = args["student"]
    samplers = {
        (flows, stage): SamplerConfig.from_json(section[key])
        for flows, section in sections.items()
        for stage, key in _SAMPLER_KEYS.items()
    }
    for stage in _SAMPLER_KEYS:  # a student without an own section runs plainly: it has learned the guidance
        plain = SamplerConfig(steps=1, cfg_strength=0.0, sigma_min=samplers["teacher", stage].sigma_min)
        samplers.setdefault(("student", stage), plain)
    return samplers


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _stays_inside(reference: str) -> bool:
    """Whether a path without suffix names a place inside the folder that it is relative to."""
    path = PurePosixPath(reference)
    return not (path.is_absolute() or ".." in path.parts or path.suffix == ".safetensors")


def _copy(source: NetworkFiles, target: NetworkFiles) -> None:
    for origin, place in ((source.weights, target.weights), (source.config, target.config)):
        place.parent.mkdir(parents=True, exist_ok=True)
        if not (place.exists() and place.samefile(origin)):
            with appear_whole(place) as partial:
                shutil.copyfile(origin, partial)
