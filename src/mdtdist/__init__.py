"""Few-step flow-based 3D generation by marginal-data transport distillation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdtdist.pipelines import Asset, ImageTo3D, TextTo3D

__all__ = ["Asset", "ImageTo3D", "TextTo3D"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the pipelines when they are asked for, so that small parts of the package load without torch."""
    if name in __all__:
        from mdtdist import pipelines

        return getattr(pipelines, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
