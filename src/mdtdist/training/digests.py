"""Names for content: what a cached result was made of, as a hash."""

import hashlib

import torch
from torch import Tensor, nn

DIGITS = 32


def digest(*parts: str | Tensor) -> str:
    """The same for the same texts and tensors (type, shape and values) in the same order, on any device."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            head, body = f"text {len(part.encode())};", part.encode()
            total.update(head.encode() + body)
        else:
            values = part.detach().cpu().contiguous()
            total.update(f"{values.dtype} {tuple(values.shape)};".encode())
            total.update(values.flatten().view(torch.uint8).numpy().tobytes())  # numpy does not know bfloat16
    return total.hexdigest()[:DIGITS]


def module_digest(module: nn.Module) -> str:
    """The weights of a network, in the types it holds them in."""
    return digest(*(part for name, value in module.state_dict().items() for part in (name, value)))
