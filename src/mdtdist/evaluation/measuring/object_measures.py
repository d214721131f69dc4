"""Everything that is measured on one output of one object; sets are compared later, from what is kept here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from mdtdist.errors import InputError
from mdtdist.evaluation.assets.pictures import RenderedViews, render_views
from mdtdist.evaluation.assets.points import point_scores, sample_surface, unproject, voxel_iou
from mdtdist.evaluation.assets.reading import Asset3D
from mdtdist.evaluation.encoders.features import FeatureNetwork
from mdtdist.evaluation.measuring.judges import Judges
from mdtdist.evaluation.measuring.protocols import Protocol, Ring
from mdtdist.evaluation.metrics.image_metrics import lpips, psnr, ssim
from mdtdist.render.cameras import Camera

if TYPE_CHECKING:
    from mdtdist.evaluation.encoders.shape_scores import ShapeScorer

# Of this file and of what it calls: raised when the same files give other arrays, so that none are taken from a cache
# that was filled before. Records carry it.
MEASURES_VERSION = "1"
Arrays = dict[str, np.ndarray]
IS_GREY, ALIGNMENT, THUMBNAIL = "is_grey", "alignment", "thumbnail"
POINT_METRICS = ("chamfer", "f_score", "normal_consistency", "iou")
NORMAL_METRICS = ("psnr_normal", "ssim_normal", "lpips_normal")
EMPTY = "empty"  # in place of a sentence about alignment
FRONT_YAW, THUMBNAIL_SIZE = -90.0, 128  # degrees, pixels
MAX_PSNR = 100.0  # dB, of equal pictures; their ratio is infinite


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One thing to measure: an output of a system, or the true object itself.

    Attributes:
        id: of the object.
        seed: of the output.
        digest: changes when the thing does.
        load: reads it; None for an output that is empty.
        move: what becomes of the protocol's cameras, for calibration; None leaves them.
    """

    id: str
    digest: str
    load: Callable[[], Asset3D | None]
    seed: int = 0
    move: Callable[[Sequence[Camera]], list[Camera]] | None = None


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What an output is compared with.

    Attributes:
        pictures: of the true object from the cameras of the feature distances; None if no metric needs them.
        normals_seen: its normals from the same cameras, as ``Looks.normal_pictures``; None if no metric needs them.
        points: on its surface, with unit normals; None if no metric needs them.
        image: the condition picture; None if there is none.
    """

    pictures: UInt8[np.ndarray, "V 3 H W"] | None = None
    normals_seen: UInt8[np.ndarray, "V 3 H W"] | None = None
    points: Float[np.ndarray, "N 3"] | None = None
    normals: Float[np.ndarray, "N 3"] | None = None
    image: Image.Image | None = None


@dataclass(frozen=True)
class Looks:
    """Pictures and points of one subject under a protocol, each made when it is first asked for."""

    subject: Subject
    protocol: Protocol

    @cached_property
    def asset(self) -> Asset3D | None:
        """The asset; None if there is nothing."""
        return self.subject.load()

    @property
    def is_grey(self) -> bool:
        """Whether it is of one grey, as is all that a system without colours exports; an empty output says nothing."""
        return self.asset is not None and not self.asset.has_color

    @cached_property
    def pictures(self) -> UInt8[np.ndarray, "V 3 H W"]:
        """From the cameras of the feature distances."""
        return self._empty(self.protocol.pictures.frechet) if self._views is None else _to_uint8(self._views.pictures)

    @property
    def normal_pictures(self) -> UInt8[np.ndarray, "V 3 H W"]:
        """Normals from the same cameras as colours, ``(n + 1) / 2`` in object axes, on the background."""
        if self._views is None:
            return self._empty(self.protocol.pictures.frechet)
        assert self._views.normals is not None
        is_surface = (self._views.depth > 0)[:, None]
        shown = torch.where(is_surface, (self._views.normals + 1) / 2, self.protocol.pictures.background)
        return _to_uint8(shown)

    @property
    def thumbnail(self) -> UInt8[np.ndarray, "3 H W"]:
        """The one of the pictures that sees most of the front, small, for people."""
        yaws = self.protocol.pictures.frechet.yaws
        index = min(range(len(yaws)), key=lambda i: abs((yaws[i] - FRONT_YAW + 180) % 360 - 180))
        return shrink(self.pictures[index], size=THUMBNAIL_SIZE)

    @cached_property
    def clip_pictures(self) -> UInt8[np.ndarray, "V 3 H W"]:
        """From the cameras of the CLIP score."""
        ring = self.protocol.pictures.clip
        if self.asset is None:
            return self._empty(ring)
        return _to_uint8(self._render(self._move(ring.cameras()), size=self.protocol.pictures.size).pictures)

    @cached_property
    def points(self) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"] | None]:
        """What the depth cameras see, with normals: one and the same way for splats, meshes and the true object.

        An output without any surface is one point in the middle of the cube, without a normal.
        """
        spec = self.protocol.points
        cameras = self._move(spec.cameras())
        views = None if self.asset is None else self._render(cameras, size=spec.size)
        if views is None or not bool((views.depth > 0).any()):
            return np.zeros((1, 3)), None
        points, normals = unproject(views.depth, cameras, normals=views.normals)
        if not len(points):  # seen from its edge only
            return np.zeros((1, 3)), None
        return _draw(points, normals, count=spec.count, seed=spec.seed, like=spec.normalization)

    @cached_property
    def _views(self) -> RenderedViews | None:
        spec = self.protocol.pictures
        return None if self.asset is None else self._render(self._move(spec.frechet.cameras()), size=spec.size)

    def _empty(self, ring: Ring) -> UInt8[np.ndarray, "V 3 H W"]:
        spec = self.protocol.pictures
        return np.full((len(ring.yaws), 3, spec.size, spec.size), round(255 * spec.background), np.uint8)

    def _render(self, cameras: Sequence[Camera], *, size: int) -> RenderedViews:
        assert self.asset is not None
        spec = self.protocol.pictures
        return render_views(self.asset, cameras, size=size, background=spec.background, lighting=spec.lighting)

    def _move(self, cameras: list[Camera]) -> list[Camera]:
        return cameras if self.subject.move is None else self.subject.move(cameras)


def color_keys(protocol: Protocol, judges: Judges) -> list[str]:
    """The arrays of one output that need colours, as far as there are networks for them."""
    keys = [feature_key(network) for network in judges.networks.values()]
    return keys + [judges.key(name) for name in ("psnr", "ssim", "lpips", "clip") if is_wanted(name, protocol, judges)]


def shape_keys(protocol: Protocol, judges: Judges) -> list[str]:
    """The arrays of one output that only need its shape."""
    names = (*POINT_METRICS, *NORMAL_METRICS, *judges.shapes)
    return [judges.key(name) for name in names if is_wanted(name, protocol, judges)]


def is_wanted(name: str, protocol: Protocol, judges: Judges) -> bool:
    """Whether a protocol lists a metric and nothing that it needs is missing."""
    return name in protocol.metrics and name not in judges.missing


def feature_key(network: FeatureNetwork) -> str:
    """The name under which features of a network are kept; it holds the digest of the checkpoint."""
    return f"features/{network.name}"


def measure_subject(looks: Looks, truth: Truth, judges: Judges, keys: Sequence[str]) -> Arrays:
    """The arrays ``keys`` of one output, how it was aligned, whether it is grey, and a small picture."""
    arrays = _of_pictures(looks, truth, judges, keys)
    arrays[ALIGNMENT] = np.array(EMPTY if looks.asset is None else looks.asset.alignment.sentence)
    arrays[IS_GREY] = np.array(looks.is_grey)
    arrays |= {THUMBNAIL: looks.thumbnail} if color_keys(looks.protocol, judges) else {}
    if set(POINT_METRICS) & set(keys):
        arrays |= {key: value for key, value in _of_points(looks, truth).items() if key in keys}
    for name, scorer in judges.shapes.items():
        if judges.key(name) in keys:
            arrays[judges.key(name)] = _shape_score(looks, truth, scorer)
    return arrays


def feature_arrays(looks: Looks, judges: Judges, keys: Sequence[str]) -> Arrays:
    """Features of the pictures, one row per view."""
    wanted = {feature_key(network): network for network in judges.networks.values()}
    return {key: _features(network, looks.pictures) for key, network in wanted.items() if key in keys}


def _of_pictures(looks: Looks, truth: Truth, judges: Judges, keys: Sequence[str]) -> Arrays:
    arrays = feature_arrays(looks, judges, keys)
    scores: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "psnr": lambda made, true: psnr(made, true).clamp_max(MAX_PSNR),
        "ssim": ssim,
        "lpips": lambda made, true: lpips(judges.lpips, made, true),
    }
    for name, score in scores.items():
        if (key := judges.key(name)) in keys:
            assert truth.pictures is not None
            arrays[key] = np.array(float(score(_to_float(looks.pictures), _to_float(truth.pictures)).mean()))
        if (key := judges.key(f"{name}_normal")) in keys:
            assert truth.normals_seen is not None
            arrays[key] = np.array(float(score(_to_float(looks.normal_pictures), _to_float(truth.normals_seen)).mean()))
    if (key := judges.key("clip")) in keys:
        assert judges.clip is not None and truth.image is not None
        condition = judges.clip.embed(image_tensor(truth.image, background=looks.protocol.pictures.background)[None])
        views = judges.clip.embed(_to_float(looks.clip_pictures))
        arrays[key] = np.array(float(torch.cosine_similarity(views, condition).mean()))
    return arrays


@torch.no_grad()
def _features(network: FeatureNetwork, pictures: UInt8[np.ndarray, "V 3 H W"]) -> Float[np.ndarray, "V C"]:
    features = network(_to_float(pictures)).cpu().float().numpy()
    if not np.isfinite(features).all():
        raise InputError(f"{network.name} gives features that are not finite; its weights are damaged")
    return features


def _of_points(looks: Looks, truth: Truth) -> Arrays:
    """Chamfer distance, F-score, normal consistency and intersection over union with the true surface."""
    assert truth.points is not None
    spec = looks.protocol.points
    points, normals = looks.points
    scores = point_scores(points, truth.points, tau=spec.tau, normals_a=normals, normals_b=truth.normals)
    arrays = {name: np.array(float(scores[name])) for name in ("chamfer", "f_score")}
    # Where nothing was made no normal agrees with anything.
    arrays["normal_consistency"] = np.array(float(scores["normal_consistency"]) if normals is not None else 0.0)
    arrays["iou"] = np.array(voxel_iou(points, truth.points, resolution=spec.iou_resolution))
    return arrays


@torch.no_grad()
def _shape_score(looks: Looks, truth: Truth, scorer: "ShapeScorer") -> np.ndarray:
    """Cosine similarity of the shape with the condition picture; 0 for an empty output."""
    assert truth.image is not None
    if looks.asset is None:
        return np.array(0.0)
    points, colors, _ = sample_surface(looks.asset, scorer.num_points, seed=looks.protocol.shapes.seed)
    shape = scorer.embed_shapes(_batch(points), None if colors is None else _batch(colors))
    return np.array(float(torch.cosine_similarity(shape, scorer.embed_images([truth.image])).mean()))


def shrink(picture: UInt8[np.ndarray, "3 H W"], *, size: int) -> UInt8[np.ndarray, "3 h w"]:
    """At most ``size`` pixels a side."""
    image = Image.fromarray(picture.transpose(1, 2, 0))
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return np.array(image).transpose(2, 0, 1)


def image_tensor(image: Image.Image, *, background: float) -> Float[Tensor, "3 H W"]:
    """A picture with its transparency over a grey level, sRGB in [0, 1]."""
    pixels = torch.from_numpy(np.array(image.convert("RGBA"))).permute(2, 0, 1).float() / 255
    return pixels[:3] * pixels[3:] + background * (1 - pixels[3:])


def _draw(
    points: Any, normals: Any, *, count: int, seed: int, like: str
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"] | None]:
    """At most ``count`` of the points, normalised as the protocol says."""
    points = np.asarray(points, dtype=np.float64)
    rows = np.random.default_rng(seed).permutation(len(points))[:count]
    chosen = normalize_points(points[rows], how=like)
    return chosen, None if normals is None else np.asarray(normals, dtype=np.float64)[rows]


def normalize_points(points: Float[np.ndarray, "N 3"], *, how: str) -> Float[np.ndarray, "N 3"]:
    """As they are ("none"), box centred with the longest side 1 ("unit-cube"), or about the centroid with the
    farthest point at distance 1 ("unit-sphere")."""
    if how == "none":
        return points
    if how == "unit-cube":
        low, high = points.min(0), points.max(0)
        return (points - (low + high) / 2) / max(float((high - low).max()), 1e-12)
    centred = points - points.mean(0)
    return centred / max(float(np.linalg.norm(centred, axis=1).max()), 1e-12)


def _batch(values: Any) -> Float[Tensor, "1 N 3"]:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)[None]


def _to_uint8(pictures: Float[Tensor, "V 3 H W"]) -> UInt8[np.ndarray, "V 3 H W"]:
    """As an image file would hold them; both sides of every comparison are rounded so."""
    return (pictures.detach().cpu().clamp(0, 1) * 255).round().byte().numpy()


def _to_float(pictures: UInt8[np.ndarray, "V 3 H W"]) -> Float[Tensor, "V 3 H W"]:
    return torch.from_numpy(pictures).float() / 255
