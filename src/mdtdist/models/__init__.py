"""TRELLIS networks under their official names, their checkpoint files, and velocity-field adapters."""

from mdtdist.models.registry import NETWORKS, build, load, network_args, save
from mdtdist.models.slat_encoder import SLatEncoder
from mdtdist.models.slat_flow import SLatFlowModel
from mdtdist.models.slat_gaussian_decoder import SLatGaussianDecoder
from mdtdist.models.slat_mesh_decoder import SLatMeshDecoder
from mdtdist.models.slat_radiance_field_decoder import SLatRadianceFieldDecoder
from mdtdist.models.sparse_structure_flow import SparseStructureFlowModel
from mdtdist.models.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder, sample_posterior
from mdtdist.models.velocity import TIME_SCALE, sparse_velocity_field, velocity_field

__all__ = [
    "NETWORKS",
    "TIME_SCALE",
    "SLatEncoder",
    "SLatFlowModel",
    "SLatGaussianDecoder",
    "SLatMeshDecoder",
    "SLatRadianceFieldDecoder",
    "SparseStructureDecoder",
    "SparseStructureEncoder",
    "SparseStructureFlowModel",
    "build",
    "load",
    "sample_posterior",
    "network_args",
    "save",
    "sparse_velocity_field",
    "velocity_field",
]
