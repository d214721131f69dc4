"""TRELLIS networks under their official names, their checkpoint files, and velocity-field adapters."""

from mdtdist.models.extra_embeddings import EXTRA_EMBEDDINGS, FlowNetwork, extra_embeddings, with_extra_embeddings
from mdtdist.models.latent_discriminator import LatentDiscriminator
from mdtdist.models.registry import NETWORKS, build, load, network_args, save
from mdtdist.models.slat_encoder import SLatEncoder
from mdtdist.models.slat_flow import SLatFlowModel
from mdtdist.models.slat_gaussian_decoder import SLatGaussianDecoder
from mdtdist.models.slat_mesh_decoder import SLatMeshDecoder
from mdtdist.models.slat_radiance_field_decoder import SLatRadianceFieldDecoder
from mdtdist.models.sparse_structure_flow import SparseStructureFlowModel
from mdtdist.models.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder, sample_posterior
from mdtdist.models.velocity import TIME_SCALE, logit_field, sparse_velocity_field, velocity_field

__all__ = [
    "EXTRA_EMBEDDINGS",
    "FlowNetwork",
    "NETWORKS",
    "TIME_SCALE",
    "LatentDiscriminator",
    "SLatEncoder",
    "SLatFlowModel",
    "SLatGaussianDecoder",
    "SLatMeshDecoder",
    "SLatRadianceFieldDecoder",
    "SparseStructureDecoder",
    "SparseStructureEncoder",
    "SparseStructureFlowModel",
    "build",
    "extra_embeddings",
    "load",
    "logit_field",
    "sample_posterior",
    "network_args",
    "save",
    "sparse_velocity_field",
    "velocity_field",
    "with_extra_embeddings",
]
