"""Task: the structured-latent VAE with a Gaussian decoder, trained by differentiable rendering."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdtdist.data import PreparedFolder, files
from mdtdist.data.views import View, ViewChoice
from mdtdist.evaluation.metrics.image_metrics import ssim
from mdtdist.models import build, sample_posterior, save
from mdtdist.render.gaussian_rasterizer import render_gaussians
from mdtdist.representations import SH_C0, Gaussians
from mdtdist.sparse import SparseTensor, pack_coords
from mdtdist.training.pictures import save_image_grid
from mdtdist.training.task import Draw, EpochSampler, Task

# Normalising and back leaves voxels that no view sees a little above 0; one view of twelve is 0.08.
_SEEN = 0.04


@dataclass(frozen=True, kw_only=True)
class LatentVAEConfig:
    """Networks and losses of the structured-latent VAE; the weights are those of TRELLIS where it has them.

    Attributes:
        data: prepared folder.
        encoder: arguments of ``SLatEncoder``.
        decoder: arguments of ``SLatGaussianDecoder``.
        max_voxels: assets with more are left out, which bounds memory and the seconds of a step; None for no bound.
        views: pictures that are compared: "around" leaves out the condition views, where these have lights of their
            own; None for all.
        ssim_weight: weight of ``1 - SSIM`` beside the mean absolute difference.
        alpha_weight: weight of the mean absolute difference of coverage.
        kl_weight: weight of the mean KL divergence per latent element.
        volume_weight: weight of the mean product of the three scales; keeps Gaussians small.
        opacity_weight: weight of the mean of ``(1 - opacity)^2``; keeps them opaque.
        color_weight: weight of the mean absolute difference between the mean colour of a voxel's Gaussians and the
            colour its visible views show (not in TRELLIS; without it a short training stays grey).
    """

    data: Path
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    max_voxels: int | None = None
    views: ViewChoice | None = None
    ssim_weight: float = 0.2
    alpha_weight: float = 0.5
    kl_weight: float = 1e-6
    volume_weight: float = 1e4
    opacity_weight: float = 1e-3
    color_weight: float = 0.0


class LatentVAETask(Task):
    """Encode image features on voxels, decode Gaussians, render a random view over a random background, compare."""

    module: nn.ModuleDict

    def __init__(self, config: LatentVAEConfig, *, seed: int, device: str) -> None:
        self.config, self.device = config, device
        self.module = nn.ModuleDict(
            {
                "encoder": build("SLatEncoder", **config.encoder),
                "decoder": build("SLatGaussianDecoder", **config.decoder),
            }
        ).to(device)
        self.data = PreparedFolder(config.data)
        self.ids = {split: self.data.small_enough(split, config.max_voxels) for split in ("train", "val")}
        self.views = {sha: self.data.open_views(sha, only=config.views) for ids in self.ids.values() for sha in ids}
        self.mean, self.std = feature_statistics(self.data, self.ids["train"])
        self.dilation = config.decoder["representation_config"]["2d_filter_kernel_size"]
        self.epochs = EpochSampler(len(self.ids["train"]), seed)

    def loss(self, draw: Draw) -> dict[str, Tensor]:
        ids = [self.ids["train"][i] for i in self.epochs.draw(draw)]
        self.last_draw = {"ids": ids}
        x = self._voxel_features(ids)
        mean, logvar = self.module["encoder"](x)
        mean, logvar = mean.float(), logvar.float().clamp(-30, 20)
        z = sample_posterior(mean, logvar, generator=draw.generator)
        scenes = self.module["decoder"](x.replace(z))
        with torch.autocast(self.device.split(":")[0], enabled=False):
            drawn = self._draw_views(ids, draw.generator)
            parts = [self._render_loss(scene, *one) for scene, one in zip(scenes, drawn, strict=True)]
        losses = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        losses["kl"] = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        losses["color"] = self._color_loss(x, scenes)
        loss = losses.pop("image") + self.config.kl_weight * losses["kl"] + self.config.color_weight * losses["color"]
        return {"loss": loss, **losses}

    def _color_loss(self, x: SparseTensor, scenes: list[Gaussians]) -> Tensor:
        """Channels 0 to 2 of the voxel features are the mean colour over visible views, channel 3 their share."""
        std, mean = self.std[:4].to(x.feats), self.mean[:4].to(x.feats)
        rgb, visible = (x.feats[:, :4] * std + mean).split([3, 1], dim=1)
        colors = 0.5 + SH_C0 * torch.cat([scene.sh[:, 0] for scene in scenes])
        error = (colors.view(len(rgb), -1, 3).mean(1) - rgb).abs()
        return error[visible[:, 0] > _SEEN].mean()

    def _voxel_features(self, ids: list[str]) -> SparseTensor:
        items = list(files.in_threads(self.data.features, ids))
        # Widened one by one: what autocast makes of a concatenation on a CPU takes no float16.
        feats = torch.cat([feats.to(self.device).float() for _, feats in items])
        feats = (feats - self.mean.to(feats)) / self.std.to(feats)
        return SparseTensor(feats, pack_coords([coords for coords, _ in items]).to(self.device))

    def _draw_views(self, ids: list[str], generator: torch.Generator) -> list[tuple[View, Float[Tensor, "3"]]]:
        """A random view of each object, and the colour behind it."""
        indices, backgrounds = [], []
        for sha in ids:
            indices.append(int(torch.randint(len(self.views[sha]), (), generator=generator)))
            backgrounds.append(torch.rand(3, generator=generator).to(self.device))
        views = files.in_threads(lambda one: self.views[one[0]][one[1]], list(zip(ids, indices, strict=True)))
        return list(zip(views, backgrounds, strict=True))

    def _render_loss(self, scene: Gaussians, view: View, background: Float[Tensor, "3"]) -> dict[str, Tensor]:
        config = self.config
        truth, alpha, picture, coverage = self._compare(scene, view, background)
        l1 = (picture - truth).abs().mean()
        dissimilarity = 1 - ssim(picture[None], truth[None]).mean()
        alpha_l1 = (coverage - alpha).abs().mean()
        image = l1 + config.ssim_weight * dissimilarity + config.alpha_weight * alpha_l1
        image = image + config.volume_weight * scene.scales.prod(1).mean()
        image = image + config.opacity_weight * ((1 - scene.opacities) ** 2).mean()
        return {"image": image, "l1": l1, "ssim": 1 - dissimilarity, "alpha_l1": alpha_l1}

    def _compare(
        self, scene: Gaussians, view: View, background: Float[Tensor, "3"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Truth and its coverage, picture and its coverage."""
        rgba = torch.from_numpy(view.rgba).permute(2, 0, 1).to(self.device) / 255
        truth = rgba[:3] * rgba[3:] + (1 - rgba[3:]) * background[:, None, None]
        rendering = render_gaussians(
            scene, view.camera, size=rgba.shape[-1], background=background, dilation=self.dilation
        )
        return truth, rgba[3], rendering.color, rendering.alpha

    def evaluate(self, folder: Path, step: int) -> dict[str, float]:
        white = torch.ones(3, device=self.device)
        figures, rows = [], []
        for i, sha in enumerate(self.ids["val"][:24]):
            x = self._voxel_features([sha])
            mean, _ = self.module["encoder"](x)
            scene = self.module["decoder"](x.replace(mean))[0]
            truth, _, picture, _ = self._compare(scene, self.views[sha][i % len(self.views[sha])], white)
            picture = picture.clamp(0, 1)
            mse = ((picture - truth) ** 2).mean()
            figures.append(torch.stack([-10 * torch.log10(mse), ssim(picture[None], truth[None])[0], mean.std()]))
            rows.append((truth, picture))
        save_image_grid(folder / f"samples_{step:07d}.png", [[pair[j] for pair in rows[:8]] for j in (0, 1)])
        psnr, similarity, std = torch.stack(figures).mean(0).tolist()
        return {"psnr": psnr, "ssim": similarity, "latent_std": std}

    def export(self, folder: Path) -> None:
        fold_statistics(self.module["encoder"], self.mean, self.std)
        save(self.module["encoder"], folder / "slat_enc")
        save(self.module["decoder"], folder / "slat_dec_gs")


def feature_statistics(
    data: PreparedFolder, ids: list[str], *, num_assets: int = 64
) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
    """Per-channel mean and standard deviation of voxel features, from evenly spaced assets of the list."""
    chosen = ids[:: max(1, len(ids) // num_assets)]
    feats = torch.cat([data.features(sha)[1].float() for sha in chosen])
    return feats.mean(0), feats.std(0).clamp_min(1e-3)


@torch.no_grad()
def fold_statistics(encoder: nn.Module, mean: Float[Tensor, "C"], std: Float[Tensor, "C"]) -> None:
    """Make an encoder that was trained on ``(feats - mean) / std`` take ``feats``, inside its first linear layer."""
    layer: Any = encoder.input_layer
    layer.weight /= std.to(layer.weight)
    layer.bias -= layer.weight @ mean.to(layer.weight)
