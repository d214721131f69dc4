"""One function per family of recorded cases: rebuild what was recorded, return the outputs under their names.

A case is a json (class names, constructor and sampler arguments) and a safetensors file with ``weight.<key>``,
``input.<name>`` and ``output.<name>``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mdtdist.conditioning.dinov2 import DinoVisionTransformer
from mdtdist.flow import EulerSampler, Guidance, LinearPath, Trajectory, time_grid
from mdtdist.models import build, sparse_velocity_field, velocity_field
from mdtdist.representations import Gaussians
from mdtdist.representations.flexicubes import CubeField, extract_dual_surface, mesh_from_cubes
from mdtdist.sparse import SparseTensor, downsample
from tests.parity.distillation import mdt, mdt_time
from tests.parity.encoders import ENCODER_FAMILIES
from tests.parity.judges import eval_frechet, eval_inception, eval_lpips
from tests.parity.meshes import align_mesh, match_points


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


def slat_dec_rf(case: Case) -> dict[str, Tensor]:
    network = _network(case.config, case.weights)
    raw: list[Tensor] = []
    _record_output(network.out_layer, raw)
    items = network(SparseTensor(case.inputs["feats"], case.inputs["coords"]))
    return {
        "raw": raw[0],
        "num_nodes": torch.tensor([len(item) for item in items]),
        # The reference keeps an octree: positions in the unit cube, and the depth of a voxel.
        "position": torch.cat([item.centers + 0.5 for item in items]),
        "depth": torch.cat([torch.full((len(item), 1), math.log2(item.resolution)) for item in items]),
        **{name: torch.cat([getattr(item, name) for item in items]) for name in ("trivec", "density", "features_dc")},
    }


def slat_dec_mesh(case: Case) -> dict[str, Tensor]:
    network = _network(case.config, case.weights)
    subdivided: list[SparseTensor] = []
    _record_output(network.upsample[0], subdivided)
    raw = network.cubes(SparseTensor(case.inputs["feats"], case.inputs["coords"]))
    outputs = {
        "up0_feats": subdivided[0].feats,
        "up0_coords": subdivided[0].coords,
        "raw": raw.feats,
        "raw_coords": raw.coords,
    }
    for item, mesh in enumerate(network.to_meshes(raw)):
        names = (f"vertices{item}", f"faces{item}", f"vertex_attrs{item}")
        outputs |= dict(zip(names, align_mesh(mesh, *(case.outputs[name] for name in names[:2])), strict=True))
    return outputs


def flexicubes(case: Case) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}
    for name, resolution in case.config["res"].items():
        replay = _dense_cubes if f"{name}.sdf" in case.inputs else _sparse_cubes
        for key, value in replay(case, name, resolution).items():
            outputs[f"{name}.{key}"] = value
    return outputs


def _sparse_cubes(case: Case, name: str, resolution: int) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}
    for prefix, training in (("", False), ("train_", True)):
        raw, coords = case.inputs[f"{name}.feats"], case.inputs[f"{name}.coords"][:, 1:]
        mesh = mesh_from_cubes(raw, coords, resolution=resolution, training=training)
        names = [prefix + part for part in ("vertices", "faces", "vertex_attrs")]
        recorded = (case.outputs[f"{name}.{part}"] for part in names[:2])
        outputs |= dict(zip(names, align_mesh(mesh, *recorded), strict=True))
        if mesh.training is not None:
            order = match_points(mesh.training.grid_positions, case.outputs[f"{name}.train_tsdf_v"])
            outputs["train_reg_loss"] = mesh.training.regularizer[None]
            outputs["train_tsdf_v"] = mesh.training.grid_positions[order]
            outputs["train_tsdf_s"] = mesh.training.grid_sdf[order]
    return outputs


def _dense_cubes(case: Case, name: str, resolution: int) -> dict[str, Tensor]:
    weights = [case.inputs[f"{name}.{part}"] for part in ("beta", "alpha", "gamma")]
    axis = torch.arange(resolution)
    field = CubeField(
        positions=case.inputs[f"{name}.vertices_grid"],
        sdf=case.inputs[f"{name}.sdf"],
        coords=torch.cartesian_prod(axis, axis, axis),
        corners=case.inputs[f"{name}.cubes"].long(),
        weights=torch.cat([*weights[:2], weights[2][:, None]], dim=1),
    )
    outputs: dict[str, Tensor] = {}
    for prefix, variant in (("", field), ("default.", replace(field, weights=None))):
        names = [prefix + part for part in ("vertices", "faces")]
        recorded = (case.outputs[f"{name}.{part}"] for part in names)
        aligned = align_mesh(extract_dual_surface(variant), *recorded)
        outputs |= dict(zip(names, aligned[:2], strict=True))
    deviation = extract_dual_surface(field, training=True).deviation
    assert deviation is not None
    return {**outputs, "l_dev_mean": deviation.mean()[None]}


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


def eval_dinov2(case: Case) -> dict[str, Tensor]:
    network = DinoVisionTransformer(**case.config["args"])
    network.load_state_dict(case.weights, strict=True)
    outputs = {}
    for size in (name.removeprefix("row.") for name in case.inputs if name.startswith("row.")):
        image = case.inputs[f"row.{size}"][:, :, None] * case.inputs[f"col.{size}"][:, None, :]
        height, width = (int(side) // network.patch_size for side in size.split("x"))
        tokens = network(image[None])[0]
        normed, first_patch = network.norm(tokens), network.num_prefix_tokens
        outputs |= {
            f"pos.{size}": network.positions(height, width)[0],
            f"prenorm.{size}": tokens,
            f"cls.{size}": normed[0],
            f"reg_norm.{size}": normed[1:first_patch],
            f"patch_norm.{size}": normed[first_patch:],
        }
    return outputs


FAMILIES: dict[str, Callable[[Case], dict[str, Tensor]]] = {
    **ENCODER_FAMILIES,
    "eval_dinov2": eval_dinov2,
    "eval_dinov2_reg": eval_dinov2,
    "eval_frechet": eval_frechet,
    "eval_inception": eval_inception,
    "eval_lpips_alex": eval_lpips,
    "eval_lpips_vgg": eval_lpips,
    "ss_enc": ss_enc,
    "ss_dec": ss_dec,
    "ss_flow": ss_flow,
    "ss_flow_p2": ss_flow,
    "slat_enc": slat_enc,
    "slat_dec_gs": slat_dec_gs,
    "slat_dec_mesh": slat_dec_mesh,
    "slat_dec_rf": slat_dec_rf,
    "flexicubes": flexicubes,
    "flexicubes_noise": flexicubes,
    "slat_flow": slat_flow,
    "sampler": sampler,
    "e2e": e2e,
    "mdt_discrete_dnorm": mdt,
    "mdt_discrete_raw": mdt,
    "mdt_discrete_official": mdt,
    "mdt_discrete_noteacher": mdt,
    "mdt_continuous_dnorm": mdt,
    "mdt_continuous_raw": mdt,
    "mdt_cm_mp1": mdt,
    "mdt_cm_mp4": mdt,
    "mdt_time": mdt_time,
}
