"""Objects made by programs, to widen a small training set: furniture, vessels, plants, vehicles, figures and more."""

from mdtdist.data.generated.catalog import FAMILIES, GeneratedObject, generate_object

__all__ = ["FAMILIES", "GeneratedObject", "generate_object"]
