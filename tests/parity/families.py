"""One function per family of recorded cases: rebuild what was recorded, return the outputs under their names.

A case is a json (class names, constructor and sampler arguments) and a safetensors file with ``weight.<key>``,
``input.<name>`` and ``output.<name>``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mdtdist.flow import EulerSampler, Guidance, LinearPath, Trajectory, time_grid
from mdtdist.models import build, sparse_velocity_field, velocity_field
from mdtdist.representations import Gaussians
from mdtdist.sparse import SparseTensor, downsample


@dataclass(frozen=True)
class Case:
    """A recorded case: its json and its tensors without their ``weight.``, ``input.`` and ``output.`` prefixes."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def _network(config: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    network = build(config["name"], **config["args"])
    network.load_state_dict(weights, strict=True)
    return network.eval()


def _record_output(module: nn.Module, into: list[Any]) -> None:
    module.register_forward_hook(lambda _module, _inputs, output: into.append(output))


def ss_enc(case: Case) -> dict[str, Tensor]:
    mean, logvar = _network(case.config, case.weights)(case.inputs["x"])
    return {"mean": mean, "logvar": logvar, "z": mean}


def ss_dec(case: Case) -> dict[str, Tensor]:
    return {"logits": _network(case.config, case.weights)(case.inputs["x"])}


def ss_flow(case: Case) -> dict[str, Tensor]:
    # The recorded times are network times, 1000 t.
    return {"v": _network(case.config, case.weights)(case.inputs["x"], case.inputs["t"], case.inputs["cond"])}


def slat_enc(case: Case) -> dict[str, Tensor]:
    x = SparseTensor(case.inputs["feats"], case.inputs["coords"])
    mean, logvar = _network(case.config, case.weights)(x)
    return {"mean": mean, "logvar": logvar, "z": mean}


def slat_dec_gs(case: Case) -> dict[str, Tensor]:
    network = _network(case.config, case.weights)
    raw: list[Tensor] = []
    _record_output(network.out_layer, raw)
    items = network(SparseTensor(case.inputs["feats"], case.inputs["coords"]))
    args = case.config["args"]
    rep = {**args["representation_config"], "num_gaussians": 32}
    wide = build(case.config["name"], **{**args, "representation_config": rep})
    return {
        **_gaussian_arrays(items),
        "raw": raw[0],
        "num_gaussians": torch.tensor([len(item) for item in items]),
        "offset_perturbation_32": wide.offset_perturbation,
    }


def _gaussian_arrays(items: list[Gaussians]) -> dict[str, Tensor]:
    """The Gaussians of all items, under the recorded names."""
    return {
        "xyz": torch.cat([item.means for item in items]),
        "features_dc": torch.cat([item.sh for item in items]),
        "scaling": torch.cat([item.scales for item in items]),
        "rotation": torch.cat([item.rotations for item in items]),
        "opacity": torch.cat([item.opacities for item in items])[:, None],
    }


def slat_flow(case: Case) -> dict[str, Tensor]:
    network = _network(case.config, case.weights)
    packed: list[SparseTensor] = []
    _record_output(network.input_blocks[-1], packed)
    x = SparseTensor(case.inputs["feats"], case.inputs["coords"])
    v = network(x, case.inputs["t"], case.inputs["cond"])
    pooled = downsample(x)
    return {
        "v": v.feats,
        "down_feats": pooled.feats,
        "down_coords": pooled.coords,
        "packed_feats": packed[0].feats,
        "packed_coords": packed[0].coords,
    }


def _euler_sampler(params: dict[str, Any], *, sigma_min: float) -> EulerSampler:
    interval = tuple(params.get("cfg_interval", (0.0, 1.0)))
    return EulerSampler(
        steps=params["steps"],
        rescale_t=params["rescale_t"],
        guidance=Guidance(w=params.get("cfg_strength", 0.0), interval=interval),
        path=LinearPath(sigma_min=sigma_min),
    )


def _analytic_field(cond: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    def field(x: Tensor, t: Tensor) -> Tensor:
        tau, c = t[:, None, None, None], cond[:, :, None, None]
        return 0.6 * torch.cos(2 * tau) * x + (1 + tau) * c + 0.15 * x**2 - 0.3 * tau

    return field


def sampler(case: Case) -> dict[str, Tensor]:
    noise = case.inputs["noise"]
    field, negative = (_analytic_field(case.inputs[name]) for name in ("cond", "neg_cond"))
    outputs = {}
    for run in case.config["runs"]:
        euler = _euler_sampler(run, sigma_min=run["sigma_min"])
        trajectory = euler.sample(field, noise, num_samples=len(noise), negative=negative)
        outputs[f"{run['index']}.samples"] = trajectory.x
        outputs[f"{run['index']}.pred_x_t"] = torch.stack([step.x for step in trajectory.steps])
        outputs[f"{run['index']}.pred_x_0"] = torch.stack([step.x_0 for step in trajectory.steps])
        outputs[f"{run['index']}.t_seq"] = time_grid(run["steps"], rescale_t=run["rescale_t"])
    return outputs


def e2e(case: Case) -> dict[str, Tensor]:
    networks = {
        role: _network(config, _with_prefix(case.weights, role)) for role, config in case.config["models"].items()
    }
    noise = case.inputs["ss_noise"]
    cond = case.inputs["cond"].expand(len(noise), -1, -1)
    z_s = _sample(case, "sparse_structure", noise, *_fields(velocity_field, networks["ss_flow"], cond)).x
    logits = networks["ss_dec"](z_s)
    coords = (logits > 0).nonzero()[:, [0, 2, 3, 4]].int()
    fields = _fields(sparse_velocity_field, networks["slat_flow"], cond, coords)
    normalised = _sample(case, "slat", case.inputs["slat_noise"], *fields, num_samples=len(noise)).x
    slat = normalised * case.inputs["slat_std"] + case.inputs["slat_mean"]
    gaussians = networks["slat_dec_gs"](SparseTensor(slat, coords))
    return {
        "z_s": z_s,
        "ss_logits": logits,
        "coords": coords,
        "slat_normalised": normalised,
        "slat": slat,
        **_gaussian_arrays(gaussians),
    }


def _with_prefix(tensors: dict[str, Tensor], role: str) -> dict[str, Tensor]:
    prefix = role + "."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _fields(adapter: Callable[..., Any], network: nn.Module, cond: Tensor, *sites: Tensor) -> tuple[Any, Any]:
    """The conditional and the negative velocity field."""
    return adapter(network, cond, *sites), adapter(network, torch.zeros_like(cond), *sites)


def _sample(
    case: Case, stage: str, noise: Tensor, field: Any, negative: Any, *, num_samples: int | None = None
) -> Trajectory:
    config = case.config["sampler"]
    euler = _euler_sampler(config[stage], sigma_min=config["sigma_min"])
    return euler.sample(field, noise, num_samples=num_samples or len(noise), negative=negative)


FAMILIES: dict[str, Callable[[Case], dict[str, Tensor]]] = {
    "ss_enc": ss_enc,
    "ss_dec": ss_dec,
    "ss_flow": ss_flow,
    "ss_flow_p2": ss_flow,
    "slat_enc": slat_enc,
    "slat_dec_gs": slat_dec_gs,
    "slat_flow": slat_flow,
    "sampler": sampler,
    "e2e": e2e,
}
