"""``pipeline.json``: which networks, samplers and normalisation make a model (official TRELLIS layout)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mdtdist.errors import InputError
from mdtdist.flow import EulerSampler, Guidance, LinearPath
from mdtdist.models import TIME_SCALE
from mdtdist.pipelines.locate import CONFIG_NAME

Flows = Literal["student", "teacher"]
Stage = Literal["structure", "latent"]

PIPELINE_NAME = "TrellisImageTo3DPipeline"
DECODER_ROLES = ("sparse_structure_decoder", "slat_decoder_gs")
FLOW_ROLES: dict[Stage, str] = {"structure": "sparse_structure_flow_model", "latent": "slat_flow_model"}
_SAMPLER_KEYS: dict[Stage, str] = {"structure": "sparse_structure_sampler", "latent": "slat_sampler"}


def flow_role(stage: Stage, flows: Flows) -> str:
    """The key in ``models`` of a flow; the teacher has the official one, the student the suffix ``_student``."""
    return FLOW_ROLES[stage] + ("_student" if flows == "student" else "")


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How one stage is sampled; the defaults are those of TRELLIS where ``pipeline.json`` says nothing.

    Attributes:
        steps: Euler steps.
        rescale_t: time warp.
        cfg_strength: guidance weight added on top of one (w); 0 is no guidance.
        cfg_interval: times (1 = noise) between which guidance is on.
        sigma_min: noise left at t = 0 of the path.
    """

    steps: int = 50
    rescale_t: float = 1.0
    cfg_strength: float = 3.0
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    sigma_min: float = 1e-5

    def sampler(self, *, steps: int | None = None, cfg_strength: float | None = None) -> EulerSampler:
        """The sampler, with another number of steps or guidance weight if given."""
        w = self.cfg_strength if cfg_strength is None else cfg_strength
        return EulerSampler(
            steps=steps or self.steps,
            rescale_t=self.rescale_t,
            guidance=Guidance(w=w, interval=self.cfg_interval),
            path=LinearPath(sigma_min=self.sigma_min),
        )

    def to_json(self) -> dict[str, Any]:
        """A sampler entry of ``pipeline.json``."""
        params = {name: getattr(self, name) for name in ("steps", "cfg_strength", "cfg_interval", "rescale_t")}
        return {
            "name": "FlowEulerGuidanceIntervalSampler",
            "args": {"sigma_min": self.sigma_min},
            "params": params | {"cfg_interval": list(self.cfg_interval)},
        }


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """The content of ``pipeline.json``.

    Attributes:
        models: role -> path without suffix, relative to the folder.
        samplers: per flows and stage.
        slat_mean: per-channel mean of the structured latent.
        slat_std: per-channel standard deviation of the structured latent.
        image_cond_model: path without suffix of the image token encoder.
        time_scale: network time at pure noise; 1000 for the published TRELLIS checkpoints.
    """

    models: Mapping[str, str]
    samplers: Mapping[tuple[Flows, Stage], SamplerConfig]
    slat_mean: tuple[float, ...]
    slat_std: tuple[float, ...]
    image_cond_model: str
    time_scale: float = TIME_SCALE
    name: str = field(default=PIPELINE_NAME)

    @property
    def flows(self) -> tuple[Flows, ...]:
        """The pairs of flows that are there, the student first."""
        pairs: tuple[Flows, ...] = ("student", "teacher")
        return tuple(flows for flows in pairs if all(flow_role(stage, flows) in self.models for stage in FLOW_ROLES))

    @classmethod
    def read(cls, folder: Path) -> "PipelineConfig":
        """Read ``folder/pipeline.json``.

        Raises:
            InputError: if it is no valid description, or a file it names is missing.
        """
        path = folder / CONFIG_NAME
        try:
            config = cls._parse(json.loads(path.read_text())["args"])
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise InputError(
                f"{path} does not describe a model ({type(err).__name__}: {err}); expected the TRELLIS layout"
            ) from err
        missing = [role for role in DECODER_ROLES if role not in config.models]
        if missing or not config.flows:
            raise InputError(f"{path} lacks the models {missing or list(FLOW_ROLES.values())}; expected all of them")
        for base in [*config.models.values(), config.image_cond_model]:
            for suffix in (".json", ".safetensors"):
                if not (folder / (base + suffix)).is_file():
                    raise InputError(f"{path} names {base}{suffix}, which is missing; copy the whole model folder")
        return config

    @classmethod
    def _parse(cls, args: dict[str, Any]) -> "PipelineConfig":
        sections: dict[Flows, dict[str, Any]] = {"teacher": args}
        if "student" in args:
            sections["student"] = args["student"]
        samplers = {
            (flows, stage): _parse_sampler(section[key])
            for flows, section in sections.items()
            for stage, key in _SAMPLER_KEYS.items()
        }
        for stage in _SAMPLER_KEYS:  # a student without an own section runs plainly: it has learned the guidance
            plain = SamplerConfig(steps=1, cfg_strength=0.0, sigma_min=samplers["teacher", stage].sigma_min)
            samplers.setdefault(("student", stage), plain)
        return cls(
            models=dict(args["models"]),
            samplers=samplers,
            slat_mean=tuple(args["slat_normalization"]["mean"]),
            slat_std=tuple(args["slat_normalization"]["std"]),
            image_cond_model=args["image_cond_model"],
            time_scale=float(args.get("time_scale", TIME_SCALE)),
        )

    def to_json(self) -> dict[str, Any]:
        """The content of ``pipeline.json``."""
        args: dict[str, Any] = {"models": dict(self.models)}
        args |= {key: self.samplers["teacher", stage].to_json() for stage, key in _SAMPLER_KEYS.items()}
        args["slat_normalization"] = {"mean": list(self.slat_mean), "std": list(self.slat_std)}
        args["image_cond_model"] = self.image_cond_model
        if self.time_scale != TIME_SCALE:
            args["time_scale"] = self.time_scale
        args["student"] = {key: self.samplers["student", stage].to_json() for stage, key in _SAMPLER_KEYS.items()}
        return {"name": self.name, "args": args}


def _parse_sampler(entry: dict[str, Any]) -> SamplerConfig:
    known = {"steps", "cfg_strength", "cfg_interval", "rescale_t"}
    params = dict(entry.get("params", {}))
    if unknown := set(params) - known:
        raise ValueError(f"unknown sampler parameters {sorted(unknown)}; expected {sorted(known)}")
    if "cfg_interval" in params:
        params["cfg_interval"] = tuple(params["cfg_interval"])
    return replace(SamplerConfig(**params), **entry.get("args", {}))
