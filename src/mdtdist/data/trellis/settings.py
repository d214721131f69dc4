"""How to prepare a folder as TRELLIS's tools do; the defaults are the paper's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mdtdist.data.trellis.view_law import COND_SIZE, FEATURE_SIZE, NUM_COND_VIEWS, NUM_FEATURE_VIEWS
from mdtdist.errors import InputError

Renderer = Literal["raster", "rays", "cycles"]
SMALL_ENCODER = "efficientnet_lite0_mean"


@dataclass(frozen=True, kw_only=True)
class TrellisSettings:
    """Sizes, renderer and networks of the layout ``trellis``.

    Attributes:
        num_cond_views, cond_size: condition views of an asset and their side, pixels.
        num_feature_views, feature_size: the same of the views that features are taken from.
        resolution: voxels a side, at most 256.
        renderer: "raster" fills triangles (needs the extra ``data``), "rays" casts rays, the slow twin, "cycles" is
            Blender's path tracer (extra ``blender``), which made the published data.
        supersampling: samples per pixel and axis of the first two.
        cycles_samples: rays per pixel of the third.
        blender_python: interpreter that has the package bpy, where it is not this one (it pins an old NumPy).
        threads: views of one asset that are drawn at the same time.
        image_encoder: DINOv2 network, path without suffix; its last part names the folder of the features. None for
            the small encoder that comes with this package.
        feature_batch: pictures at once in the image encoder.
        structure_encoder, latent_encoder: paths without suffix; None leaves those latents out.
        device: where the networks run.
    """

    num_cond_views: int = NUM_COND_VIEWS
    cond_size: int = COND_SIZE
    num_feature_views: int = NUM_FEATURE_VIEWS
    feature_size: int = FEATURE_SIZE
    resolution: int = 64
    renderer: Renderer = "raster"
    supersampling: int = 2
    cycles_samples: int = 128
    blender_python: Path | None = None
    threads: int = 1
    image_encoder: Path | None = None
    feature_batch: int = 4
    structure_encoder: Path | None = None
    latent_encoder: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        counts = ("num_cond_views", "cond_size", "num_feature_views", "feature_size", "supersampling")
        for name in (*counts, "cycles_samples", "threads", "feature_batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give at least 1.")
        if not 2 <= self.resolution <= 256:
            raise InputError(f"resolution is {self.resolution}; expected 2 to 256, voxel indices are stored in a byte.")
        if self.renderer not in get_args(Renderer):
            raise InputError(f"renderer is {self.renderer!r}; choose among {', '.join(get_args(Renderer))}.")

    @property
    def feature_name(self) -> str:
        """Of the image encoder: the folder below ``features``."""
        return SMALL_ENCODER if self.image_encoder is None else self.image_encoder.name

    @property
    def structure_name(self) -> str:
        """Of the latents of the structure: the folder below ``ss_latents``."""
        assert self.structure_encoder is not None
        return self.structure_encoder.name

    @property
    def latent_name(self) -> str:
        """Of the structured latents: the folder below ``latents``."""
        assert self.latent_encoder is not None
        return f"{self.feature_name}_{self.latent_encoder.name}"
