"""Image-to-shape similarity with ULIP-1, ULIP-2 and Uni3D: does the shape look like what the picture shows?

A score is the cosine between the embedding of points on the surface and that of the condition picture. Its value
depends on the checkpoint and on a dozen choices around it that publications rarely state. The choices are one object
here (:class:`ShapeConvention`), and the name of a scorer tells architecture, checkpoints and choices, so that numbers
which cannot be compared do not end up in one column.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders.checkpoint import checkpoint_digest, read_checkpoint
from mdtdist.evaluation.encoders.point_groups import normalize_unit_sphere
from mdtdist.evaluation.encoders.towers import LAYOUTS, load_tower
from mdtdist.evaluation.encoders.transforms import IMAGENET_MEAN, IMAGENET_STD, ImageTransform
from mdtdist.evaluation.encoders.ulip import UlipPointModel, load_ulip
from mdtdist.evaluation.encoders.uni3d import SIZES, Uni3DPointModel, load_uni3d

Kind = Literal["ulip1", "ulip2", "uni3d"]
KINDS: tuple[Kind, ...] = ("ulip1", "ulip2", "uni3d")
_TRAINED_POINTS = {"ulip1": 8192, "ulip2": 10000, "uni3d": 10000}
_TOWERS = {"ulip1": "slip", "ulip2": "clip", "uni3d": "eva"}
_TRAINED_TRANSFORMS = {
    "ulip1": ImageTransform(mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "ulip2": ImageTransform(),
    "uni3d": ImageTransform(),
}
_CLOUDS_AT_ONCE, _PICTURES_AT_ONCE = 4, 16


@dataclass(frozen=True, kw_only=True)
class ShapeConvention:
    """How shapes and pictures reach the networks. The defaults are our recommendation, close to their training.

    Attributes:
        name: short; part of the scorer's name.
        num_points: points of a cloud; None for what the network was trained on (8192 ULIP-1, 10000 the others).
        axes: how Z-up points are turned. "y-up" is a glTF file, (x, z, -y); "exchanged" swaps y and z, (x, z, y), which
            mirrors, as OpenShape's data for Uni3D; "z-up" leaves them.
        normalization: "unit_sphere" (mean at the origin, farthest point at 1) or "none".
        scale: factor on the points before that; 2 makes the unit cube [-1, 1]. Without normalisation it changes scores.
        uses_colors: whether colours that are there are used.
        missing_color: grey of every point of a shape without colours, [0, 1].
        batch_statistics: kinds whose batch norms take the statistics of the cloud at hand (a network left in training
            mode).
        skip_origin: see :func:`~mdtdist.evaluation.encoders.point_groups.farthest_points`.
        transforms: pictures of a kind go through this instead of what its tower was trained on.
    """

    name: str = "default"
    num_points: int | None = None
    axes: Literal["y-up", "exchanged", "z-up"] = "y-up"
    normalization: Literal["unit_sphere", "none"] = "unit_sphere"
    scale: float = 1.0
    uses_colors: bool = True
    missing_color: float = 0.4
    batch_statistics: tuple[Kind, ...] = ()
    skip_origin: bool = True
    transforms: Mapping[str, ImageTransform] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.axes not in _TURNS or self.normalization not in ("unit_sphere", "none"):
            raise InputError(
                f"axes is {self.axes!r} and normalization {self.normalization!r}; "
                f"expected one of {', '.join(_TURNS)} and unit_sphere or none"
            )
        has_points = self.num_points is None or self.num_points > 0
        if not (self.scale > 0 and 0 <= self.missing_color <= 1 and has_points):
            raise InputError(
                f"scale is {self.scale}, missing_color {self.missing_color} and num_points {self.num_points}; "
                "expected a scale above 0, a colour in [0, 1] and at least one point"
            )

    @property
    def tag(self) -> str:
        """The name and a digest of all choices."""
        return f"{self.name}-{hashlib.sha256(repr(self).encode()).hexdigest()[:8]}"

    def place(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Points of the Z-up cube as the network sees them."""
        columns, signs = _TURNS[self.axes]
        turned = self.scale * points[..., columns] * points.new_tensor(signs)
        return normalize_unit_sphere(turned) if self.normalization == "unit_sphere" else turned

    def paint(self, colors: Float[Tensor, "B N 3"] | None, like: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """The colours of the points ``like``, or the grey that stands for none."""
        if colors is None or not self.uses_colors:
            return torch.full_like(like, self.missing_color)
        return colors


_TURNS = {
    "y-up": ([0, 2, 1], [1.0, 1.0, -1.0]),
    "exchanged": ([0, 2, 1], [1.0, 1.0, 1.0]),
    "z-up": ([0, 1, 2], [1.0, 1.0, 1.0]),
}

# What FlashVDM's evaluation scripts do (the numbers of the Hunyuan3D line), oddities included: nothing is normalised,
# so that scores depend on the exporter's scale; Uni3D stays in training mode; ULIP's pictures get the wrong mean.
FLASHVDM = ShapeConvention(
    name="flashvdm",
    num_points=8192,
    normalization="none",
    uses_colors=False,
    missing_color=100 / 255,
    batch_statistics=("uni3d",),
    transforms={
        "ulip1": ImageTransform(resize=248, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), background=None),
        "ulip2": ImageTransform(background=None),  # not used there
        "uni3d": ImageTransform(background=None),
    },
)
DEFAULT = ShapeConvention()
CONVENTIONS: dict[str, ShapeConvention] = {"default": DEFAULT, "flashvdm": FLASHVDM}


class ShapeScorer:
    """Shapes and pictures into one space. Made by :func:`load_shape_scorer`.

    Attributes:
        kind: "ulip1", "ulip2" or "uni3d".
        name: architecture, digests of the files and convention; belongs beside every number.
        num_points: points that a cloud must have.
        convention: what is done to points, colours and pictures.
    """

    def __init__(
        self,
        kind: Kind,
        network: UlipPointModel | Uni3DPointModel,
        tower: nn.Module | None,
        *,
        name: str,
        convention: ShapeConvention,
    ) -> None:
        self.kind, self.name, self.convention = kind, name, convention
        self.num_points = convention.num_points or _TRAINED_POINTS[kind]
        self._network, self._tower = network, tower
        self._transform = convention.transforms.get(kind, _TRAINED_TRANSFORMS[kind])

    @torch.no_grad()
    def embed_shapes(
        self, points: Float[Tensor, "B N 3"], colors: Float[Tensor, "B N 3"] | None = None
    ) -> Float[Tensor, "B D"]:
        """Embeddings of surface points, not normalised, float32 on the CPU.

        Args:
            points: ``num_points`` of the surface in the unit cube, Z up; the convention turns and scales them.
            colors: display-referred, [0, 1]; None for a shape without.

        Raises:
            InputError: if the number of points is another, or a value is not finite.
        """
        if points.ndim != 3 or points.shape[1:] != (self.num_points, 3):
            raise InputError(
                f"{self.name} got points {tuple(points.shape)}; expected [B, {self.num_points}, 3], "
                "sample that many points of each surface"
            )
        if colors is not None and colors.shape != points.shape:
            raise InputError(f"colors are {tuple(colors.shape)} for points {tuple(points.shape)}; expected one each")
        device = next(self._network.parameters()).device
        embeddings = []
        for start in range(0, len(points), _CLOUDS_AT_ONCE):
            part = slice(start, start + _CLOUDS_AT_ONCE)
            placed = self.convention.place(points[part].to(device, torch.float32))
            painted = None if colors is None else colors[part].to(device, torch.float32)
            embeddings.append(self._network(placed, self.convention.paint(painted, placed)).cpu())
        return self._finite(torch.cat(embeddings), "points or colours")

    @torch.no_grad()
    def embed_images(self, pictures: Sequence[Image.Image]) -> Float[Tensor, "B D"]:
        """Embeddings of condition pictures, not normalised, float32 on the CPU.

        Args:
            pictures: any size and mode; transparency is handled by the convention (on white by default).

        Raises:
            InputError: if the scorer was loaded without an image tower.
        """
        if self._tower is None:
            raise InputError(f"{self.name} has no image tower; give its file as 'tower' ({_TOWER_FILES[self.kind]})")
        device = next(self._tower.parameters()).device
        embeddings = []
        for start in range(0, len(pictures), _PICTURES_AT_ONCE):
            batch = [self._transform(picture) for picture in pictures[start : start + _PICTURES_AT_ONCE]]
            embeddings.append(self._tower(torch.stack(batch).to(device)).cpu())
        return self._finite(torch.cat(embeddings), "pictures")

    def _finite(self, embeddings: Float[Tensor, "B D"], what: str) -> Float[Tensor, "B D"]:
        if not bool(torch.isfinite(embeddings).all()):
            row = int((~torch.isfinite(embeddings)).any(1).nonzero()[0])
            raise InputError(f"the embedding {row} of {self.name} is not finite; check these {what} and the checkpoint")
        return embeddings


_TOWER_FILES = {
    "ulip1": "the ULIP-1 checkpoint holds it",
    "ulip2": "open_clip_pytorch_model.bin of laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
    "uni3d": "open_clip_pytorch_model.bin of timm/eva02_enormous_patch14_plus_clip_224.laion2b_s9b_b144k",
}


def cosine_similarity(shapes: Float[Tensor, "B D"], images: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
    """The score of each pair, in [-1, 1]; published tables multiply it by 100 or not."""
    return F.cosine_similarity(shapes, images, dim=-1)


def load_shape_scorer(
    kind: Kind,
    *,
    weights: Path,
    tower: Path | None = None,
    convention: ShapeConvention = DEFAULT,
    device: str | torch.device = "cpu",
) -> ShapeScorer:
    """Read a public checkpoint.

    Args:
        kind: which family; the architecture itself is read off the tensors. The "ULIP-2" file without colours
            (``pointbert_ULIP-2.pt``) has the ULIP-1 architecture, so it is loaded, and named, as ``ulip1``.
        weights: the point encoder's file.
        tower: the image tower's file. ULIP-1's checkpoint holds its tower; None leaves the others without.
        convention: what is done to points, colours and pictures.
        device: where the networks go.

    Raises:
        InputError: if a file does not fit its kind; names the file and the tensor.
    """
    if kind not in KINDS:
        raise InputError(f"the kind of shape score is {kind!r}; expected one of {', '.join(KINDS)}")
    prefixes = ("point_encoder.", "pc_projection", "logit_scale")
    options = {"skip_origin": convention.skip_origin, "batch_statistics": kind in convention.batch_statistics}
    network: UlipPointModel | Uni3DPointModel
    if kind == "uni3d":
        network = load_uni3d(read_checkpoint(weights, prefixes=prefixes), path=weights, **options)
    else:
        network = load_ulip(read_checkpoint(weights, prefixes=prefixes), path=weights, **options)
        _check_kind(kind, network, weights)
    name = f"{_architecture(network)}-{checkpoint_digest(weights)}"
    source = tower or (weights if kind == "ulip1" else None)
    image_tower = None
    if source is not None:
        image_tower = _load_tower(kind, source, network, weights).to(device)
        name += f"+{_TOWERS[kind]}-{checkpoint_digest(source)}" if source != weights else ""
    return ShapeScorer(kind, network.to(device), image_tower, name=f"{name}/{convention.tag}", convention=convention)


def _architecture(network: UlipPointModel | Uni3DPointModel) -> str:
    """A word for the architecture, from its sizes."""
    config = network.config
    if isinstance(network, Uni3DPointModel):
        return f"uni3d-{SIZES.get(config.channels, config.channels)}"
    return f"{_ulip_kind(network)}-pointbert-{config.depth}x{config.channels}-d{config.embed_channels}"


def _ulip_kind(network: UlipPointModel) -> str:
    return "ulip2" if network.config.in_channels == 6 else "ulip1"


def _check_kind(kind: Kind, network: UlipPointModel, path: Path) -> None:
    found = _ulip_kind(network)
    if found != kind:
        seen = "colours" if found == "ulip2" else "positions only"
        raise InputError(
            f"{path} is no {kind} checkpoint: its network sees {seen}, the architecture of {found}; "
            f"load it as {found} (scores of the two are different scales)"
        )


def _load_tower(kind: Kind, source: Path, network: UlipPointModel | Uni3DPointModel, weights: Path) -> nn.Module:
    layout = _TOWERS[kind]
    tower = load_tower(layout, read_checkpoint(source, prefixes=LAYOUTS[layout].prefixes), path=source)
    if tower.config.embed_channels != network.config.embed_channels:
        raise InputError(
            f"{source} embeds pictures in {tower.config.embed_channels} dimensions and {weights} shapes in "
            f"{network.config.embed_channels}; they were not trained together, expected {_TOWER_FILES[kind]}"
        )
    return tower
