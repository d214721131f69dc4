"""The networks that are trained or averaged beside a student."""

import copy
from typing import Any

import torch
from torch import nn

from mdtdist.models import LatentDiscriminator
from mdtdist.nn import LowRankUpdates
from mdtdist.objectives import AdversarialOptions


def make_companions(method: Any, *, student: nn.Module, teacher: nn.Module, seed: int) -> dict[str, nn.Module]:
    """The networks that the options of a method need beside student and teacher, by the name of their field.

    Args:
        method: a ``MethodConfig``; of its fields ``fake`` and ``lora_rank`` say what the fake network is, and
            ``adversarial`` what the heads of the discriminator are.
        student: where the slow average starts.
        teacher: frozen; where the fake network starts, and what the discriminator reads.
        seed: of what starts at random.
    """
    companions: dict[str, nn.Module] = {}
    if "target" in method.needs:
        companions["target"] = copy.deepcopy(student).requires_grad_(False)
    if "fake" in method.needs:
        companions["fake"] = _fake(method, teacher, seed)
    if "discriminator" in method.needs:
        companions["discriminator"] = _discriminator(method, teacher, seed)
    return companions


def _fake(method: Any, teacher: nn.Module, seed: int) -> nn.Module:
    if getattr(method, "fake", "full") == "lora":
        return LowRankUpdates(teacher, rank=method.lora_rank, generator=torch.Generator().manual_seed(seed))
    return copy.deepcopy(teacher).requires_grad_(True)


def _discriminator(method: Any, teacher: nn.Module, seed: int) -> nn.Module:
    options = getattr(method, "adversarial", AdversarialOptions())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = LatentDiscriminator(teacher, num_heads=options.num_heads, channels=options.head_channels)
    return heads.to(next(teacher.parameters()).device)
