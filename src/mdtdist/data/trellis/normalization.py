"""A model in the unit cube together with the transform that brought it there."""

from dataclasses import dataclass

from mdtdist.data.normalize import bounding_cube, fit_to_cube, load_upright
from mdtdist.data.sources import Asset
from mdtdist.representations.triangles import TexturedTriangles


@dataclass(frozen=True, kw_only=True)
class NormalizedAsset:
    """``triangles = scale * upright model + offset``, as ``transforms.json`` of TRELLIS states it.

    Attributes:
        asset: what it was read from.
        triangles: Z up, longest side 1, centred.
        scale: units of the cube per unit of the file.
        offset: x, y, z in the cube, of the origin of the file.
    """

    asset: Asset
    triangles: TexturedTriangles
    scale: float
    offset: tuple[float, float, float]


def load_normalized_asset(asset: Asset) -> NormalizedAsset:
    """Read a model, turn it upright and fit it into the cube.

    Raises:
        ValueError: if it has no triangle, a position that is not finite, or no extent.
    """
    model = load_upright(asset.path, rotation=asset.rotation)
    (x, y, z), side = bounding_cube(model)
    offset = (-float(x) / side, -float(y) / side, -float(z) / side)
    return NormalizedAsset(asset=asset, triangles=fit_to_cube(model), scale=1 / side, offset=offset)
