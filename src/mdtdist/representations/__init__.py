"""What is generated, as data."""

from mdtdist.representations.gaussians import SH_C0, Gaussians
from mdtdist.representations.mesh import Mesh
from mdtdist.representations.strivec import Strivec

__all__ = ["SH_C0", "Gaussians", "Mesh", "Strivec"]
