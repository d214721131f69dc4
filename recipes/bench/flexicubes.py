"""Time and memory of the mesh extraction at full size: 256^3 cubes, 20 000 active voxels of the 64^3 latent grid.

    python recipes/bench/flexicubes.py [--device cuda] [--training] [--threads 2] [--repeats 3]

The voxels are those nearest to a bumpy sphere, and every one is 64 cubes with the 101 channels that the mesh decoder
gives; the signed values are those of the surface, the other channels are noise. Bar for inference: 3 s and 2 GB on 2
cores. The memory on a CPU is the largest resident size of the whole process, PyTorch and the 0.5 GB of input included.
In training the backward pass is timed as well.
"""

import argparse
import json
import resource
import time

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdtdist.representations.flexicubes import COLOR_CHANNELS, ExtractedMesh, mesh_from_cubes
from mdtdist.sparse import SparseTensor, subdivide

VOXELS, LATENT_RESOLUTION, RESOLUTION = 20_000, 64, 256
_CORNERS = torch.tensor([[corner & 1, corner >> 1 & 1, corner >> 2 & 1] for corner in range(8)])


def bumpy_sphere(points: Float[Tensor, "... 3"]) -> Float[Tensor, "..."]:
    """Signed values near a sphere of radius 0.36 with bumps; close to a distance."""
    return points.norm(dim=-1) - 0.36 - 0.02 * torch.sin(20 * points).prod(dim=-1)


def active_cubes() -> Int[Tensor, "N 3"]:
    """The cubes of the voxels nearest to the surface, in the order in which the decoder subdivides them."""
    axis = torch.arange(LATENT_RESOLUTION)
    voxels = torch.cartesian_prod(axis, axis, axis)
    distance = bumpy_sphere((voxels + 0.5) / LATENT_RESOLUTION - 0.5).abs()
    chosen = voxels[distance.argsort()[:VOXELS].sort().values]
    coords = torch.cat([torch.zeros(len(chosen), 1, dtype=torch.long), chosen], dim=1).int()
    return subdivide(subdivide(SparseTensor(torch.empty(len(coords), 0), coords))).coords[:, 1:]


def decoder_output(coords: Int[Tensor, "N 3"]) -> Float[Tensor, "N 101"]:
    """Channels of the cubes; the cubes agree about the signed values up to a little noise."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(len(coords), COLOR_CHANNELS, generator=generator)
    raw[:, :8].mul_(1e-4)
    for corner, offset in enumerate(_CORNERS):
        raw[:, corner] += bumpy_sphere((coords + offset) / RESOLUTION - 0.5)
    return raw


def run(raw: Float[Tensor, "N 101"], coords: Int[Tensor, "N 3"], *, training: bool) -> tuple[ExtractedMesh, float]:
    """The mesh and the seconds it took."""
    _finish(raw.device)
    start = time.perf_counter()
    mesh = mesh_from_cubes(raw, coords, resolution=RESOLUTION, training=training)
    if mesh.training is not None:
        (mesh.vertices.square().mean() + mesh.training.regularizer).backward()
    _finish(raw.device)
    return mesh, time.perf_counter() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_gigabytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--training", action="store_true", help="training mode, forward and backward")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    coords = active_cubes().to(args.device)
    raw = decoder_output(coords.cpu()).to(args.device).requires_grad_(args.training)
    before = _peak_gigabytes(args.device)
    seconds = []
    for _ in range(args.repeats):
        raw.grad = None
        mesh, duration = run(raw, coords, training=args.training)
        seconds.append(duration)
    result = {
        "device": str(args.device),
        "threads": args.threads,
        "mode": "training, forward and backward" if args.training else "inference",
        "cubes": len(coords),
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "seconds": [round(value, 3) for value in seconds],
        "peak_gigabytes_before": round(before, 2),
        "peak_gigabytes": round(_peak_gigabytes(args.device), 2),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
