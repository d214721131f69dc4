"""Networks whose torso is stored and computed in 16 bits while their ends stay in float32 (``use_fp16`` of configs).

The torso is the stack of blocks between the input layer and the output layer. Its linear layers and convolutions have
the 16-bit type; its norms, the gains of query/key normalisation and everything outside keep theirs, and every norm
computes in float32. Activations take the 16-bit type when they enter the torso and the type of the input behind it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mdtdist.sparse import SparseConv3d

TORSO_PARTS = ("input_blocks", "middle_block", "blocks", "upsample", "out_blocks")


def set_torso_dtype(network: nn.Module, dtype: torch.dtype) -> None:
    """Store, and from now on compute, the torso of a network in ``dtype``, in place.

    Args:
        network: any network of ``mdtdist.models``, also on the meta device.
        dtype: float16 as in published checkpoints, bfloat16, or float32 to undo either.
    """
    for matrix in _torso_matrices(network):
        matrix.to(dtype)


def narrow(network: nn.Module, x: Tensor) -> Tensor:
    """``x`` in the type of the torso if that has 16 bits, else as it is: autocast may have chosen its type."""
    matrix = next(_torso_matrices(network), None)
    dtype = x.dtype if matrix is None else next(matrix.parameters()).dtype
    return x.to(dtype) if dtype.itemsize == 2 else x


def _torso_matrices(network: nn.Module) -> Iterator[nn.Module]:
    for name, part in network.named_children():
        if name in TORSO_PARTS:
            yield from (m for m in part.modules() if isinstance(m, nn.Linear | nn.Conv3d | SparseConv3d))
