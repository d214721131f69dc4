"""The networks that a protocol asks for, as far as their weights are given; what is missing is said, never dropped."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.features import FeatureNetwork, load_feature_network
from mdtdist.evaluation.measuring.protocols import NetworkSpec, Protocol, split_metric

if TYPE_CHECKING:
    from mdtdist.evaluation.encoders.clip_score import ClipScorer
    from mdtdist.evaluation.encoders.shape_scores import Kind, ShapeScorer

_SHIPPED = ("efficientnet",)
_LPIPS = ("lpips", "lpips_normal")  # of the colours and of the normals
_SHAPES: "tuple[Kind, ...]" = ("ulip1", "ulip2", "uni3d")
# What may be given, and what it is.
WEIGHTS: Mapping[str, str] = {
    "inception": "FID Inception-v3",
    "dinov2": "DINOv2 ViT-L/14 without registers",
    "dinov2_reg": "DINOv2 ViT-L/14 with registers",
    "clip": "CLIP image tower",
    "lpips": "channel weights of LPIPS v0.1 (vgg)",
    "lpips_trunk": "VGG16 of torchvision",
    "ulip1": "ULIP-1 PointBERT, image tower inside",
    "ulip1_tower": "its image tower, where the checkpoint has none",
    "ulip2": "ULIP-2 PointBERT",
    "ulip2_tower": "OpenCLIP ViT-bigG/14",
    "uni3d": "Uni3D",
    "uni3d_tower": "EVA02-E-14-plus",
}


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Loaded networks.

    Attributes:
        networks: of the feature distances, by their short names.
        clip: of the CLIP score.
        lpips: the network of LPIPS.
        shapes: scorers of image-to-shape similarity, by metric.
        names: metric -> the name that its network gives itself, with the digest of the weights.
        missing: metric -> why it cannot be measured, and what would change that.
    """

    networks: dict[str, FeatureNetwork] = field(default_factory=dict)
    clip: "ClipScorer | None" = None
    lpips: Any = None
    shapes: "dict[str, ShapeScorer]" = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def first(self) -> FeatureNetwork:
        """The network of coverage and diversity."""
        return next(iter(self.networks.values()))

    def name_of(self, metric: str) -> str:
        """The name that the network behind a metric gives itself; empty without one."""
        kind, network = split_metric(metric)
        if network:
            return self.networks[network].name
        return self.first.name if kind in ("coverage", "diversity") else self.names.get(kind, "")

    def key(self, metric: str) -> str:
        """What the measurements behind a metric are kept under; other weights have other keys."""
        kind, name = split_metric(metric)[0], self.name_of(metric)
        if kind in ("fd", "kd", "coverage", "diversity"):
            return f"features/{name}"
        return f"{metric}/{name}" if name else metric


def load_judges(protocol: Protocol, weights: Mapping[str, Path], *, has_images: bool, device: str = "cpu") -> Judges:
    """Load what a protocol asks for.

    Args:
        protocol: decides which networks.
        weights: files by the names of ``WEIGHTS``.
        has_images: whether the condition pictures are there, which CLIP and shape scores compare with.
        device: where the networks go.

    Raises:
        InputError: if a name of ``weights`` is unknown, a file does not fit, or is not the variant of the protocol.
    """
    check_weights(weights)
    judges = Judges()
    for spec in protocol.networks:
        wanting = [name for name in protocol.metrics if split_metric(name)[1] == spec.name]
        if spec.name in _SHIPPED or spec.name in weights:
            judges.networks[spec.name] = _load_network(spec, weights.get(spec.name), device)
        else:
            judges.missing.update(dict.fromkeys(wanting, _no_weights(spec.name)))
    if not judges.networks:
        reason = "no feature network was loaded; " + _no_weights(protocol.networks[0].name if protocol.networks else "")
        judges.missing.update({name: reason for name in ("coverage", "diversity") if name in protocol.metrics})
    rest = _load_scorers(protocol, weights, has_images, device, judges.missing)
    names = {name: scorer.name for name, scorer in rest["shapes"].items()}
    if "clip" in rest:
        names["clip"] = rest["clip"].name
    if "lpips" in rest:
        names |= dict.fromkeys(_LPIPS, rest["lpips"].name)
    return Judges(networks=judges.networks, missing=judges.missing, names=names, **rest)


def check_weights(weights: Mapping[str, Path]) -> None:
    """Refuse unknown names and files that are not there.

    Raises:
        InputError: in both cases.
    """
    for name, path in weights.items():
        if name not in WEIGHTS:
            raise InputError(f"unknown weights {name!r}; expected one of {', '.join(WEIGHTS)}")
        if not path.is_file():
            raise InputError(f"the weights {name} are not at {path}; give the path of the {WEIGHTS[name]} file")


def _load_network(spec: NetworkSpec, weights: Path | None, device: str) -> FeatureNetwork:
    network = load_feature_network(spec.name, weights=weights, convention=spec.convention, device=device)
    if not network.name.startswith(spec.variant):
        raise InputError(
            f"the weights of {spec.name} make the network {network.name!r}; the protocol asks for {spec.variant!r}..., "
            "so give the file of that variant, or write a protocol of your own"
        )
    return network


def _load_scorers(
    protocol: Protocol, weights: Mapping[str, Path], has_images: bool, device: str, missing: dict[str, str]
) -> dict[str, Any]:
    """CLIP, LPIPS and the shape scorers."""
    loaded: dict[str, Any] = {"shapes": {}}
    for metric in ("clip", *_SHAPES):
        if metric in protocol.metrics and not has_images:
            missing[metric] = "the reference has no condition pictures; give them with --images"
        elif metric in protocol.metrics and metric not in weights:
            missing[metric] = _no_weights(metric)
    if "clip" in protocol.metrics and "clip" not in missing:
        from mdtdist.evaluation.encoders.clip_score import load_clip_scorer

        loaded["clip"] = load_clip_scorer(weights["clip"], device)
    for kind in _SHAPES:
        if kind in protocol.metrics and kind not in missing:
            loaded["shapes"][kind] = _load_shape_scorer(kind, protocol, weights, device)
    if wanted := [name for name in _LPIPS if name in protocol.metrics]:
        if lacking := [name for name in ("lpips", "lpips_trunk") if name not in weights]:
            missing.update(dict.fromkeys(wanted, _no_weights(*lacking)))
        else:
            from mdtdist.evaluation.encoders.lpips import load_lpips

            trunk, linear = weights["lpips_trunk"], weights["lpips"]
            loaded["lpips"] = load_lpips("vgg", trunk=trunk, linear=linear, device=device)
    return loaded


def _load_shape_scorer(metric: "Kind", protocol: Protocol, weights: Mapping[str, Path], device: str) -> "ShapeScorer":
    from mdtdist.evaluation.encoders.shape_scores import CONVENTIONS, load_shape_scorer

    convention = CONVENTIONS[protocol.shapes.convention]
    tower = weights.get(f"{metric}_tower")
    return load_shape_scorer(metric, weights=weights[metric], tower=tower, convention=convention, device=device)


def _no_weights(*names: str) -> str:
    given = " ".join(f"--weights {name}=FILE" for name in names)
    return f"no weights: give {given} ({', '.join(WEIGHTS.get(name, name) for name in names)})"
