"""Names of TRELLIS's prepared files, below the root of a data set."""

from pathlib import Path


def renders_folder(root: Path, sha256: str) -> Path:
    """Feature views: ``000.png`` ... (RGBA), ``transforms.json`` and the normalised model ``mesh.ply``."""
    return root / "renders" / sha256


def cond_folder(root: Path, sha256: str) -> Path:
    """Condition views: ``000.png`` ... (RGBA) and ``transforms.json``."""
    return root / "renders_cond" / sha256


def voxel_path(root: Path, sha256: str) -> Path:
    """Centres of the surface voxels."""
    return root / "voxels" / f"{sha256}.ply"


def feature_path(root: Path, feature_name: str, sha256: str) -> Path:
    """``indices`` uint8 [N, 3], ``patchtokens`` float16 [N, C]."""
    return root / "features" / feature_name / f"{sha256}.npz"


def structure_path(root: Path, structure_name: str, sha256: str) -> Path:
    """``mean`` float32 [C, r, r, r]."""
    return root / "ss_latents" / structure_name / f"{sha256}.npz"


def latent_path(root: Path, latent_name: str, sha256: str) -> Path:
    """``feats`` float32 [N, C], ``coords`` uint8 [N, 3]."""
    return root / "latents" / latent_name / f"{sha256}.npz"
