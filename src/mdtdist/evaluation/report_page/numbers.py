"""How numbers and columns are written: titles, order, units, digits."""

from collections.abc import Iterable

from mdtdist.evaluation.report_page.entries import Measured, Metric

_TITLES = {
    "fd_dinov2": "FD DINOv2",
    "kd_dinov2": "KD DINOv2",
    "fd_dinov2_reg": "FD DINOv2 with registers",
    "kd_dinov2_reg": "KD DINOv2 with registers",
    "fd_inception": "FD Inception",
    "kd_inception": "KD Inception",
    "fd_efficientnet": "FD EfficientNet",
    "kd_efficientnet": "KD EfficientNet",
    "gap_closed": "Gap closed",
    "clip": "CLIP",
    "ulip": "ULIP",
    "ulip1": "ULIP-1",
    "ulip2": "ULIP-2",
    "uni3d": "Uni3D",
    "chamfer": "Chamfer",
    "f_score": "F-score",
    "f1_voxels": "F1 at 1 voxel",
    "normal_consistency": "Normal consistency",
    "iou": "Voxel IoU",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "psnr_normal": "PSNR of normals",
    "ssim_normal": "SSIM of normals",
    "lpips_normal": "LPIPS of normals",
    "coverage": "Coverage",
    "diversity": "Diversity",
    "structure_distance": "Structure distance",
    "latent_distance": "Latent distance",
}
_ORDER = list(_TITLES)
_TIMES_100 = ("kd_", "clip", "ulip", "uni3d")  # as the papers print them
_DIGITS = {"fd_": 1, "kd_": 2, "clip": 1, "ulip": 1, "uni3d": 1, "psnr": 2, "gap_closed": 0, "chamfer": 4}


def is_set_distance(name: str) -> bool:
    """Frechet distances, what the speed-quality plot draws."""
    return name.startswith("fd_")


def ordered(metrics: Iterable[Metric]) -> list[Metric]:
    """Each metric once, in the order of the tables; unknown ones last, by name."""

    def place(metric: Metric) -> tuple[int, str, str, int]:
        known = _ORDER.index(metric.name) if metric.name in _ORDER else len(_ORDER)
        return known, metric.name, metric.network or "", metric.count or 0

    return sorted(set(metrics), key=place)


def title(name: str) -> str:
    """What a metric is called in a table."""
    return _TITLES.get(name, name)


def unit(metric: Metric) -> str:
    """The unit that :func:`show` prints in."""
    return f"{metric.unit or ''} x 100".strip() if _factor(metric) == 100 else metric.unit or ""


def _factor(metric: Metric) -> int:
    is_scaled = "100" in (metric.unit or "")
    return 100 if metric.name.startswith(_TIMES_100) and not is_scaled else 1


def show(metric: Metric, measured: Measured) -> tuple[str, str]:
    """The number, and its interval or spread."""
    factor = _factor(metric)
    digits = next((count for prefix, count in _DIGITS.items() if metric.name.startswith(prefix)), 3)
    if measured.spread is not None:
        detail = f"+- {factor * measured.spread:.{digits}f}"
    elif measured.low is not None and measured.high is not None:
        detail = f"[{factor * measured.low:.{digits}f}, {factor * measured.high:.{digits}f}]"
    else:
        detail = ""
    return f"{factor * measured.value:.{digits}f}", detail


def show_seconds(seconds: float) -> str:
    """Two significant digits below a second, two decimals above."""
    return f"{seconds:.2f}" if seconds >= 0.1 else f"{seconds:.3f}"
