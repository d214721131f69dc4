"""A simple foreground estimate for opaque images: what differs from the colour of the image border."""

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

_MIN_DISTANCE = 0.08  # in the RGB unit cube; sensor noise and JPEG blocks stay below
_MIN_AREA = 1e-3  # of the image; less is dust


def estimate_alpha(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    """Alpha of the object on a plain or evenly shaded background.

    A colour that changes linearly over the image is fitted to the border (robustly, since the object may touch it).
    Background is what is near that colour and connected to the border, so that highlights inside the object stay.

    Returns:
        255 on the object, 0 elsewhere, a soft edge of about a pixel; all 0 if nothing differs.
    """
    rgb = image.astype(np.float32) / 255
    distance, threshold = _border_distance(rgb)
    background = _touching_border(distance < threshold)
    foreground = ndimage.binary_opening(~background, iterations=1)
    labels, count = ndimage.label(foreground)
    if count == 0:
        return np.zeros(image.shape[:2], np.uint8)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    keep = areas >= max(_MIN_AREA * foreground.size, 0.02 * areas.max())
    soft = ndimage.gaussian_filter(keep[labels].astype(np.float32), 0.7)
    return (255 * soft).round().astype(np.uint8)


def _border_distance(rgb: Float[np.ndarray, "H W 3"]) -> tuple[Float[np.ndarray, "H W"], float]:
    """Distance of every pixel to the border's colour, and the distance that counts as different."""
    height, width = rgb.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    basis = np.stack([np.ones_like(x), x, y], -1).astype(np.float32)
    ring = max(1, round(0.02 * min(height, width)))
    border = np.ones((height, width), bool)
    border[ring:-ring, ring:-ring] = False
    points, colours = basis[border], rgb[border]
    residual = np.linalg.norm(colours - np.median(colours, axis=0), axis=-1)
    coefficients = np.zeros((3, 3), np.float32)
    for _ in range(5):  # reweighted least squares: pixels of the object on the border lose their vote
        weight = 1 / (residual + 0.02)
        coefficients = np.linalg.lstsq(points * weight[:, None], colours * weight[:, None], rcond=None)[0]
        residual = np.linalg.norm(colours - points @ coefficients, axis=-1)
    distance = np.linalg.norm(rgb - basis @ coefficients, axis=-1)
    return distance, max(_MIN_DISTANCE, 3 * float(np.median(residual)))


def _touching_border(mask: np.ndarray) -> np.ndarray:
    """The connected parts of a mask that reach the image border."""
    labels, _ = ndimage.label(mask)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.isin(labels, edges[edges > 0])
