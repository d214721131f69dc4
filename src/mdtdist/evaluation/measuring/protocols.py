"""Evaluation protocols: what is rendered, sampled and compared, as a file with an id and a digest.

Numbers of two systems may share a column when their records carry one digest. A protocol that is changed in any way,
its texts included, has another one.
"""

import difflib
import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from mdtdist.config import from_dict, load_toml
from mdtdist.errors import InputError
from mdtdist.render.cameras import Camera, orbit_camera

_SHIPPED = resources.files("mdtdist.evaluation.measuring").joinpath("protocols")
_PICTURE_METRICS = ("clip", "psnr", "ssim", "lpips", "coverage", "diversity")
_NORMAL_METRICS = ("psnr_normal", "ssim_normal", "lpips_normal")
_SHAPE_METRICS = ("ulip1", "ulip2", "uni3d")
_POINT_METRICS = ("chamfer", "f_score", "normal_consistency", "iou")
_NETWORKS = ("inception", "dinov2", "dinov2_reg", "efficientnet")


@dataclass(frozen=True, kw_only=True)
class Ring:
    """Cameras on a circle around the object that look at its middle.

    Attributes:
        yaws: degrees; 0 is +X, 90 is +Y, -90 the front.
        pitch: degrees above the horizon.
        radius: distance from the middle, object units (the longest side of an object is 1).
        fov: full opening angle, degrees.
    """

    yaws: tuple[float, ...]
    pitch: float = 30.0
    radius: float = 2.0
    fov: float = 40.0

    def __post_init__(self) -> None:
        if not self.yaws:
            raise InputError("a ring of cameras has no yaws; give at least one, in degrees")
        if not (abs(self.pitch) <= 90 and self.radius > 0 and 0 < self.fov < 180):
            raise InputError(
                f"a ring has pitch {self.pitch}, radius {self.radius} and fov {self.fov}; "
                "expected a pitch from -90 to 90 degrees, a radius above 0 and a fov between 0 and 180 degrees"
            )

    def cameras(self) -> list[Camera]:
        """One camera per yaw."""
        pitch, fov = math.radians(self.pitch), math.radians(self.fov)
        return [orbit_camera(math.radians(yaw), pitch, radius=self.radius, fov=fov) for yaw in self.yaws]


@dataclass(frozen=True, kw_only=True)
class PictureSpec:
    """Pictures that networks look at.

    Attributes:
        frechet: cameras of the feature distances and of the comparisons with the true object.
        clip: cameras of the CLIP score.
        size: pixels a side.
        background: grey level behind the object; 1 is white.
        lighting: of meshes, see ``render_views``: "shaded" by a mild fixed light, "unlit", or "auto", as the file says
            of itself.
    """

    frechet: Ring
    clip: Ring
    size: int
    background: float
    lighting: Literal["auto", "shaded", "unlit"] = "auto"

    def __post_init__(self) -> None:
        if self.size < 16 or not 0 <= self.background <= 1:
            raise InputError(
                f"pictures have size {self.size} and background {self.background}; "
                "expected at least 16 pixels and a grey level from 0 to 1"
            )


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A network whose features are compared, and how pictures reach its size.

    Attributes:
        name: as ``load_feature_network`` takes it.
        variant: architecture, resize and kind of feature: how the name that the loaded network gives itself has to
            begin; empty for anything. The weights are not part of it, their digest is beside every number.
        convention: input convention of ``inception``; others ignore it.
    """

    name: Literal["inception", "dinov2", "dinov2_reg", "efficientnet"]
    variant: str = ""
    convention: Literal["fidelity", "pytorch_fid", "clean"] = "fidelity"


@dataclass(frozen=True, kw_only=True)
class PointSpec:
    """Points of the surface, and how they are compared.

    Attributes:
        rings: cameras whose depth pictures are turned into points; the same for every system and for the true object.
        size: pixels a side of the depth pictures.
        count: points that are kept of each object, drawn with ``seed``.
        tau: distance within which a point counts as found by the F-score, object units.
        iou_resolution: voxels a side for the intersection over union.
        normalization: of both point sets before the comparison: "none", or each "unit-cube" or "unit-sphere".
        seed: of the drawing.
    """

    rings: tuple[Ring, ...]
    size: int
    count: int
    tau: float
    iou_resolution: int
    normalization: Literal["none", "unit-cube", "unit-sphere"] = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rings or min(self.size, self.count, self.iou_resolution) < 2 or not self.tau > 0:
            raise InputError(
                f"points have {len(self.rings)} rings, size {self.size}, count {self.count}, tau {self.tau} and "
                f"iou_resolution {self.iou_resolution}; expected a ring, whole numbers from 2 up and tau above 0"
            )

    def cameras(self) -> list[Camera]:
        """The cameras of all rings."""
        return [camera for ring in self.rings for camera in ring.cameras()]


@dataclass(frozen=True, kw_only=True)
class ShapeSpec:
    """How image-to-shape scores take their points.

    Attributes:
        convention: "default" (unit sphere, fixed seed, eval mode) or "flashvdm" (what that repository's scripts do).
        seed: of the points on the surface.
    """

    convention: Literal["default", "flashvdm"] = "default"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class BootstrapSpec:
    """Intervals over objects.

    Attributes:
        resamples: for means over objects and kernel distances.
        frechet_resamples: for Frechet distances, which cost far more each.
        level: share of the replicates inside the interval.
        seed: of the resamples.
    """

    resamples: int = 2000
    frechet_resamples: int = 200
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.resamples, self.frechet_resamples) < 2 or not 0 < self.level < 1:
            raise InputError(
                f"bootstrap has {self.resamples} and {self.frechet_resamples} resamples at level {self.level}; "
                "expected at least 2 of each and a level between 0 and 1"
            )


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that decides a measured number, apart from the files that are measured.

    Attributes:
        id: its name; equals the name of its file.
        title: one line for people.
        source: the publication it follows, or empty.
        objects: which objects are measured, in words.
        num_objects: how many there have to be; None for as many as the reference has.
        seeds: how many outputs of each object are measured at least.
        metrics: in the order of the tables.
        networks: of the feature distances.
        known: what the publication states and this file follows.
        chosen: what the publication leaves open and we chose.
    """

    id: str
    title: str
    source: str = ""
    objects: str
    num_objects: int | None = None
    seeds: int = 1
    metrics: tuple[str, ...]
    networks: tuple[NetworkSpec, ...]
    pictures: PictureSpec
    points: PointSpec
    shapes: ShapeSpec = field(default_factory=ShapeSpec)
    bootstrap: BootstrapSpec = field(default_factory=BootstrapSpec)
    known: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = [*known_metrics()]
        for name in self.metrics:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
                raise InputError(f"unknown metric {name!r}; did you mean {near!r}?")
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise InputError(f"metrics is {list(self.metrics)}; expected at least one, none twice")
        listed = {network.name for network in self.networks}
        if lacking := sorted({name for _, name in map(split_metric, self.metrics) if name} - listed):
            raise InputError(
                f"a metric needs the network {lacking[0]!r}; add it to networks, which has {sorted(listed)}"
            )
        if not self.networks and {"coverage", "diversity"} & set(self.metrics):
            raise InputError("coverage and diversity take the features of the first network; networks is empty")
        if self.seeds < 1 or (self.num_objects is not None and self.num_objects < 2):
            raise InputError(f"seeds is {self.seeds} and num_objects {self.num_objects}; expected 1 and 2 at least")

    @property
    def digest(self) -> str:
        """SHA-256 of the content in a canonical form; equal for equal protocols, whatever their files look like."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def needs_pictures(self) -> bool:
        """Whether any metric looks at colours."""
        return any(split_metric(name)[0] in ("fd", "kd", *_PICTURE_METRICS) for name in self.metrics)

    @property
    def needs_points(self) -> bool:
        """Whether any metric compares points."""
        return any(name in _POINT_METRICS for name in self.metrics)


def known_metrics() -> tuple[str, ...]:
    """All names that a protocol may list."""
    distances = tuple(f"{kind}_{network}" for network in _NETWORKS for kind in ("fd", "kd"))
    return (*distances, *_PICTURE_METRICS, *_NORMAL_METRICS, *_SHAPE_METRICS, *_POINT_METRICS)


def split_metric(name: str) -> tuple[str, str]:
    """``fd_dinov2`` -> ``("fd", "dinov2")``; other metrics have no network."""
    kind, _, network = name.partition("_")
    return (kind, network) if kind in ("fd", "kd") else (name, "")


def shipped_protocols() -> list[str]:
    """Ids of the protocols that come with the package."""
    return sorted(item.name.removesuffix(".toml") for item in _SHIPPED.iterdir() if item.name.endswith(".toml"))


def load_protocol(id_or_path: str | Path) -> Protocol:
    """A shipped protocol by its id, or any by the path of its TOML file.

    Raises:
        InputError: if there is none, on an unknown key (names the nearest), a missing or wrong value, or an id that is
            not the name of the file.
    """
    text = str(id_or_path)
    if not text.endswith(".toml"):
        ids = shipped_protocols()
        if text not in ids:
            near = difflib.get_close_matches(text, ids, n=1, cutoff=0.0)[0]
            raise InputError(
                f"unknown protocol {text!r}; did you mean {near!r}? There are {', '.join(ids)}; your own goes by the "
                "path of its .toml file"
            )
        with resources.as_file(_SHIPPED.joinpath(f"{text}.toml")) as path:
            return _read(path)
    return _read(Path(text).expanduser())


def _read(path: Path) -> Protocol:
    protocol = from_dict(Protocol, load_toml(path), where=f"protocol {path.name}")
    if protocol.id != path.stem:
        raise InputError(f"{path} says id {protocol.id!r}; expected the name of the file, {path.stem!r}")
    return protocol
