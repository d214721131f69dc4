"""Quality of every method on the held-out objects: agreement with the truth and with the teacher's own output."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from mdtdist.conditioning import EfficientNetLite0, load_efficientnet
from mdtdist.errors import InputError
from mdtdist.evaluation.metrics.image_metrics import ssim
from mdtdist.evaluation.model_benchmark.methods import REFERENCE, Method, sample_latent, sample_structure
from mdtdist.evaluation.model_benchmark.test_objects import TestObject, noise_at, object_noise, structure_scores
from mdtdist.models import network_args
from mdtdist.pipelines import ImageTo3D
from mdtdist.render.gaussian_rasterizer import render_gaussians
from mdtdist.representations import Gaussians

# progress(stage, done, total)
Progress = Callable[[str, int, int], None]

_DENSE_BATCH, _SPARSE_BATCH, _IMAGE_BATCH = 27, 4, 32
_FEATURE_SIZE = 224  # pixels, what EfficientNet-lite0 was trained on
_LATENT_SEED = 7919  # keeps the two noises of one object apart


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What one method did, for one seed; one value per object.

    Attributes:
        scores: name -> values. To the truth: ``iou``, ``f1``, ``iou16``, ``chamfer``, ``image_l1``, ``image_dssim``
            (1 - SSIM). To the reference from the same noise: ``structure_distance`` (RMS of latents),
            ``structure_iou``, ``latent_distance`` (RMS of normalised latents on the reference's own structure),
            ``reference_l1`` (of pictures).
        features: pooled EfficientNet-lite0 features of the pictures, the views of one object contiguous.
        pictures: the first evaluation view of every object.
        nfe: network evaluations of the structure and of the latent flow.
        num_empty: objects whose structure had no voxel; they count with the single most likely one.
    """

    scores: dict[str, Float[np.ndarray, "N"]]
    features: Float[np.ndarray, "M D"]
    pictures: UInt8[np.ndarray, "N H W 3"]
    nfe: tuple[int, int]
    num_empty: int


@dataclass(frozen=True, kw_only=True)
class _Structures:
    latents: Float[Tensor, "N c r r r"]
    grids: Bool[Tensor, "N R R R"]
    nfe: int
    num_empty: int


@dataclass(kw_only=True)
class _Latents:
    feats: list[Float[Tensor, "M c"]] = field(default_factory=list)
    gaussians: list[Gaussians] = field(default_factory=list)
    nfe: int = 0


class QualityBenchmark:
    """Runs methods on the same objects from the same noise. Stages that methods share are computed once.

    Args:
        pipe: the model.
        objects: test objects.
        seed: of all noises.

    Raises:
        InputError: if the voxels of the objects are not those of the model.
    """

    def __init__(self, pipe: ImageTo3D, objects: Sequence[TestObject], *, seed: int = 0) -> None:
        self.pipe, self.objects = pipe, list(objects)
        self.network = load_efficientnet(pipe.device)
        self.cond = torch.cat([pipe.encode(item.crop[None]) for item in self.objects])
        self._structure_noise = structure_noise(pipe, self.objects, seed=seed)
        self._latent_noise = partial(latent_noise, pipe, seed=seed)
        self._structures: dict[tuple[str, int, bool], _Structures] = {}
        self._distances: dict[tuple[str, int, bool], np.ndarray] = {}
        self._reference_latents: _Latents | None = None
        self._reference_pictures: list[Float[Tensor, "V 3 H W"]] = []
        found, expected = self.reference.grids.shape[1], self.objects[0].occupancy.shape[0]
        if found != expected:
            raise InputError(
                f"the model makes {found}^3 voxels and the data has {expected}^3; evaluate it on data prepared for it"
            )

    @property
    def reference(self) -> _Structures:
        """The teacher's own structures."""
        return self.structures(REFERENCE)

    def true_features(self) -> Float[np.ndarray, "M D"]:
        """Features of the true renders."""
        return pooled_features(self.network, torch.cat([item.pictures for item in self.objects]))

    def structures(self, method: Method) -> _Structures:
        """Structures of all objects."""
        key = method.stage("structure")
        if key not in self._structures:
            runs = [
                sample_structure(self.pipe, method, cond, noise)
                for cond, noise in zip(
                    self.cond.split(_DENSE_BATCH), self._structure_noise.split(_DENSE_BATCH), strict=True
                )
            ]
            latents = torch.cat([run.x for run in runs])
            with torch.no_grad():
                logits = torch.cat([self.pipe.decode_structure(part) for part in latents.split(_DENSE_BATCH)])
            grids = occupied_or_best(logits)
            num_empty = int((logits.flatten(1).amax(1) <= 0).sum())
            self._structures[key] = _Structures(
                latents=latents, grids=grids, nfe=runs[0].num_evaluations, num_empty=num_empty
            )
        return self._structures[key]

    def measure(self, method: Method, *, progress: Progress | None = None) -> Quality:
        """Everything about one method."""
        structures = self.structures(method)
        report = partial(progress or (lambda *_: None), method.name)
        latents = self._latents(method, structures.grids, report)
        pictures = self._render(latents.gaussians, report)
        if method == REFERENCE:
            self._reference_latents, self._reference_pictures = latents, pictures
        scores = [
            structure_scores(grid, item.occupancy) for grid, item in zip(structures.grids, self.objects, strict=True)
        ]
        values = {name: np.array([score[name] for score in scores]) for name in scores[0]}
        values |= self._to_reference(method, structures) | self._image_scores(pictures)
        return Quality(
            scores=values,
            features=pooled_features(self.network, torch.cat(pictures)),
            pictures=np.stack([_to_uint8(shown[0]) for shown in pictures]),
            nfe=(structures.nfe, latents.nfe),
            num_empty=structures.num_empty,
        )

    # ----------------------------------------------------------------------------------------------------- inside

    def _latents(
        self, method: Method, grids: Bool[Tensor, "N R R R"], report: Callable[[int, int], None] | None
    ) -> _Latents:
        """The latent flow of a method on given structures; decoded only when ``report`` is given."""
        result = _Latents()
        for start in range(0, len(grids), _SPARSE_BATCH):
            part = slice(start, start + _SPARSE_BATCH)
            coords = torch.argwhere(grids[part]).int()
            noise = self._latent_noise(self.objects[part], coords)
            run = sample_latent(self.pipe, method, self.cond[part], coords, noise)
            counts = torch.bincount(coords[:, 0].long()).tolist()
            result.feats += run.x.split(counts)
            result.nfe = run.num_evaluations
            if report is not None:
                with torch.no_grad():
                    result.gaussians += self.pipe.decode_latent(run.x, coords)
                report(min(start + _SPARSE_BATCH, len(grids)), 2 * len(grids))
        return result

    def _render(
        self, scenes: Sequence[Gaussians], report: Callable[[int, int], None]
    ) -> list[Float[Tensor, "V 3 H W"]]:
        pictures = []
        for number, (scene, item) in enumerate(zip(scenes, self.objects, strict=True), 1):
            pictures.append(render_views(scene, item))
            report(len(scenes) + number, 2 * len(scenes))
        return pictures

    def _to_reference(self, method: Method, structures: _Structures) -> dict[str, Float[np.ndarray, "N"]]:
        """Distances to the teacher's own output from the same noise, stage by stage."""
        if self._reference_latents is None:
            self._reference_latents = self._latents(REFERENCE, self.reference.grids, None)
        key = method.stage("latent")
        if key not in self._distances:
            is_own = key == REFERENCE.stage("latent")
            latents = self._reference_latents if is_own else self._latents(method, self.reference.grids, None)
            pairs = zip(latents.feats, self._reference_latents.feats, strict=True)
            self._distances[key] = np.array([_rms(a, b) for a, b in pairs])
        grids = list(zip(structures.grids, self.reference.grids, strict=True))
        latents_pairs = zip(structures.latents, self.reference.latents, strict=True)
        return {
            "structure_distance": np.array([_rms(a, b) for a, b in latents_pairs]),
            "structure_iou": np.array([float((a & b).sum() / (a | b).sum()) for a, b in grids]),
            "latent_distance": self._distances[key],
        }

    def _image_scores(self, pictures: Sequence[Float[Tensor, "V 3 H W"]]) -> dict[str, Float[np.ndarray, "N"]]:
        pairs = [(shown, item.pictures) for shown, item in zip(pictures, self.objects, strict=True)]
        scores = {
            "image_l1": np.array([float((a - b).abs().mean()) for a, b in pairs]),
            "image_dssim": np.array([float((1 - ssim(a, b)).mean()) for a, b in pairs]),
        }
        if self._reference_pictures:
            own = zip(pictures, self._reference_pictures, strict=True)
            scores["reference_l1"] = np.array([float((a - b).abs().mean()) for a, b in own])
        return scores


def structure_noise(pipe: ImageTo3D, objects: Sequence[TestObject], *, seed: int) -> Float[Tensor, "N c r r r"]:
    """Initial states of the structure flow."""
    args = network_args(pipe.network("sparse_structure_flow_model"))
    shape: dict[str, int] = {"channels": args["in_channels"], "resolution": args["resolution"]}
    return torch.stack([object_noise(item.sha256, seed=seed, **shape) for item in objects]).to(pipe.device)


def latent_noise(
    pipe: ImageTo3D, objects: Sequence[TestObject], coords: Int[Tensor, "N 4"], *, seed: int
) -> Float[Tensor, "N c"]:
    """Initial states of the latent flow on the voxels ``coords`` of a batch of objects."""
    shape = {"channels": len(pipe.config.slat_mean), "resolution": objects[0].occupancy.shape[0]}
    return noise_at([object_noise(item.sha256, seed=seed + _LATENT_SEED, **shape) for item in objects], coords)


def occupied_or_best(logits: Float[Tensor, "N R R R"]) -> Bool[Tensor, "N R R R"]:
    """Voxels with a logit above 0; where there is none, the one with the largest logit."""
    best = logits >= logits.flatten(1).amax(1)[:, None, None, None]
    is_empty = ~(logits > 0).flatten(1).any(1)
    return torch.where(is_empty[:, None, None, None], best, logits > 0)


@torch.no_grad()
def render_views(scene: Gaussians, item: TestObject) -> Float[Tensor, "V 3 H W"]:
    """Pictures on white from the evaluation cameras, in [0, 1], on the CPU."""
    size = item.pictures.shape[-1]
    views = [
        render_gaussians(scene, camera, size=size, background=(1.0, 1.0, 1.0)).color.clamp(0, 1)
        for camera in item.cameras
    ]
    return torch.stack(views).cpu()


@torch.no_grad()
def pooled_features(network: EfficientNetLite0, pictures: Float[Tensor, "M 3 H W"]) -> Float[np.ndarray, "M D"]:
    """Pooled EfficientNet-lite0 features of sRGB pictures in [0, 1], enlarged to 224 px."""
    device = next(network.parameters()).device
    size = (_FEATURE_SIZE, _FEATURE_SIZE)
    parts = [
        network.pooled(F.interpolate(part.to(device), size=size, mode="bilinear", align_corners=False)).cpu()
        for part in pictures.split(_IMAGE_BATCH)
    ]
    return torch.cat(parts).double().numpy()


def _rms(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def _to_uint8(picture: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return (picture * 255).round().byte().permute(1, 2, 0).numpy()
