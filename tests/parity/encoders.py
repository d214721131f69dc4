"""Recorded cases of the encoders behind shape scores: point groups, ULIP, Uni3D, image towers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdtdist.evaluation.encoders.checkpoint import load_exactly
from mdtdist.evaluation.encoders.point_groups import (
    farthest_points,
    group_points,
    nearest_rows,
    normalize_unit_sphere,
)
from mdtdist.evaluation.encoders.towers import LAYOUTS, TowerConfig
from mdtdist.evaluation.encoders.ulip import UNUSED as ULIP_UNUSED
from mdtdist.evaluation.encoders.ulip import UlipConfig, UlipPointModel
from mdtdist.evaluation.encoders.uni3d import UNUSED as UNI3D_UNUSED
from mdtdist.evaluation.encoders.uni3d import Uni3DConfig, Uni3DPointModel

if TYPE_CHECKING:
    from tests.parity.families import Case

_RECORDED = Path("recorded case")


def watch(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """A dictionary that the outputs of these modules land in when the network runs."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _inputs, output: seen.__setitem__(name, output)

    for name, module in modules.items():
        module.register_forward_hook(keep(name))
    return seen


def _similarity(embeddings: Tensor, images: Tensor) -> Tensor:
    return F.normalize(embeddings, dim=-1) @ F.normalize(images, dim=-1).T


def eval_group(case: Case) -> dict[str, Tensor]:
    xyz, rgb = case.inputs["xyz"], case.inputs["rgb"]
    num_groups, group_size = case.config["args"]["num_group"], case.config["args"]["group_size"]
    groups = group_points(xyz, rgb, num_groups=num_groups, group_size=group_size)
    members = nearest_rows(xyz, groups.centers, group_size).sort(-1).values  # recorded in this order
    batch = torch.arange(len(xyz))[:, None, None]
    relative = xyz[batch, members] - groups.centers[:, :, None]
    return {
        "normalized": normalize_unit_sphere(case.inputs["raw"]),
        "fps_idx": farthest_points(xyz, num_groups),
        "fps_idx_plain": farthest_points(xyz, num_groups, skip_origin=False),
        "center": groups.centers,
        "knn_idx": members,
        "neighborhood": torch.cat([relative, rgb[batch, members]], -1),
    }


def ulip_network(case: Case) -> UlipPointModel:
    """The recorded network; widths this small do not tell the number of heads."""
    args, weights = case.config["args"], case.weights
    config = UlipConfig(
        in_channels=weights["point_encoder.encoder.first_conv.0.weight"].shape[1],
        channels=args["trans_dim"],
        depth=args["depth"],
        num_heads=args["num_heads"],
        hidden=4 * args["trans_dim"],
        group_channels=args["encoder_dims"],
        embed_channels=case.config["embed_dim"],
        num_groups=args["num_group"],
        group_size=args["group_size"],
    )
    network = UlipPointModel(config)
    load_exactly(network, weights, path=_RECORDED, unused=ULIP_UNUSED)
    return network


def eval_ulip(case: Case) -> dict[str, Tensor]:
    network = ulip_network(case)
    encoder, points = network.point_encoder, case.inputs["points"]
    parts = {
        "feature": encoder,
        "group_features": encoder.encoder,
        "pos": encoder.pos_embed,
        "block0": encoder.blocks.blocks[0],
        "tokens": encoder.norm,
    }
    seen = watch(parts)
    embedding = network(points[..., :3], points[..., 3:] if points.shape[-1] == 6 else None)
    size = {"num_groups": network.config.num_groups, "group_size": network.config.group_size}
    return {
        **seen,
        "center": group_points(points[..., :3], **size).centers,
        "pc_embed": embedding,
        "similarity": _similarity(embedding, case.inputs["image_embed"]),
    }


def uni3d_network(case: Case, **options: bool) -> Uni3DPointModel:
    """The recorded network."""
    args, trunk = case.config["args"], case.config["trunk"]
    is_gated, is_normed = trunk.get("swiglu_mlp", False), trunk.get("scale_mlp", False)
    config = Uni3DConfig(
        channels=trunk["embed_dim"],
        depth=trunk["depth"],
        num_heads=trunk["num_heads"],
        hidden=int(trunk["embed_dim"] * trunk["mlp_ratio"]),
        feed_forward="normed" if is_normed else "packed" if is_gated else "gelu",
        fused=trunk.get("qkv_fused", True),
        group_channels=args["pc_encoder_dim"],
        embed_channels=args["embed_dim"],
        num_groups=args["num_group"],
        group_size=args["group_size"],
    )
    network = Uni3DPointModel(config, **options)
    load_exactly(network, case.weights, path=_RECORDED, unused=UNI3D_UNUSED)
    return network


def eval_uni3d(case: Case) -> dict[str, Tensor]:
    network = uni3d_network(case)
    encoder, inputs = network.point_encoder, (case.inputs["xyz"], case.inputs["rgb"])
    blocks = encoder.visual.blocks
    seen = watch({"group_features": encoder.encoder, "block0": blocks[0], "block_last": blocks[-1]})
    embedding = network(*inputs)
    size = {"num_groups": network.config.num_groups, "group_size": network.config.group_size}
    return {
        **seen,
        "center": group_points(inputs[0], **size).centers,
        "pc_embed": embedding,
        "pc_embed_batchstats": uni3d_network(case, batch_statistics=True)(*inputs)[:1],
        "similarity": _similarity(embedding, case.inputs["image_embed"]),
    }


def tower_network(kind: str, case: Case) -> nn.Module:
    """The recorded image tower; ``kind`` as in ``LAYOUTS``."""
    args = case.config["args"]
    weights = case.weights
    config = TowerConfig(
        image_size=args["image_size" if kind == "clip" else "img_size"],
        patch_size=args["patch_size"],
        channels=args["width" if kind == "clip" else "embed_dim"],
        depth=args["layers" if kind == "clip" else "depth"],
        num_heads=args["heads" if kind == "clip" else "num_heads"],
        hidden=weights[LAYOUTS[kind].hidden].shape[0],
        embed_channels=weights[LAYOUTS[kind].projection].shape[LAYOUTS[kind].projection_dim],
    )
    network = LAYOUTS[kind].network(config)
    load_exactly(network, weights, path=_RECORDED)
    return network


def eval_tower_openclip(case: Case) -> dict[str, Tensor]:
    network: Any = tower_network("clip", case)
    trunk = network.visual
    seen = watch({"after_ln_pre": trunk.ln_pre, "before_ln_post": trunk.transformer["resblocks"][-1]})
    return {"image_embed": network(case.inputs["image"]), **seen}


def eval_tower_eva_postnorm(case: Case) -> dict[str, Tensor]:
    network: Any = tower_network("eva", case)
    trunk = network.visual["trunk"]
    seen = watch({"block0": trunk.blocks[0], "tokens": trunk})
    return {"image_embed": network(case.inputs["image"]), **seen}


def eval_tower_slip(case: Case) -> dict[str, Tensor]:
    network: Any = tower_network("slip", case)
    seen = watch({"tokens": network.visual})
    embedding = network(case.inputs["image"])
    return {"image_embed": embedding, "cls": seen["tokens"][:, 0]}


ENCODER_FAMILIES: dict[str, Callable[[Case], dict[str, Tensor]]] = {
    "eval_group": eval_group,
    "eval_ulip_xyz": eval_ulip,
    "eval_ulip_rgb": eval_ulip,
    "eval_uni3d_gelu": eval_uni3d,
    "eval_uni3d_swiglu_norm": eval_uni3d,
    "eval_uni3d_swiglu_packed": eval_uni3d,
    "eval_tower_openclip": eval_tower_openclip,
    "eval_tower_eva_postnorm": eval_tower_eva_postnorm,
    "eval_tower_slip": eval_tower_slip,
}
