"""The toy problem: a checkerboard of eight squares in two classes, a network for it, and a teacher trained on it.

A network holds many runs at once: its weights are ``[runs, in, out]``, and the samples of a batch are those of the
first run, then those of the second, and so on. To an objective they are one batch.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mdtdist.flow import DenseLayout, Guidance, LinearPath, VelocityField, guided_field, randn_like

CLASSES, HIDDEN_LAYERS, WIDTH = 2, 3, 64
SIDE = 0.85  # of a square; the board of four by four has about unit variance then
_INPUTS = 2 + 5 + CLASSES + 2  # place, time, class, length of the interval, guidance weight


def sample_board(num: int, generator: torch.Generator) -> tuple[Float[Tensor, "N 2"], Int[Tensor, "N"]]:
    """Points of the black squares and their classes: 0 in the lower half of the board, 1 in the upper."""
    row, half = torch.randint(4, (num,), generator=generator), torch.randint(2, (num,), generator=generator)
    column = 2 * half + row % 2
    corner = torch.stack([column, row], dim=1) - 2
    return SIDE * (corner + torch.rand(num, 2, generator=generator)), row // 2


def is_on_board(x: Float[Tensor, "*B 2"]) -> Bool[Tensor, "*B"]:
    """Whether points lie on black squares."""
    column, row = torch.floor(x / SIDE + 2).unbind(-1)
    inside = (x.abs() < 2 * SIDE).all(-1)
    return inside & ((column + row) % 2 == 0)


def one_hot(classes: Int[Tensor, "N"]) -> Float[Tensor, "N C"]:
    """The condition of each sample; all zeros stands for none."""
    return nn.functional.one_hot(classes, CLASSES).float()


class Network(nn.Module):
    """A velocity, or an average one: three hidden layers on place, time, class, ``t - r`` and ``w``.

    The last two have no effect until they are trained, so that a student starts as its teacher.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [_INPUTS, *[WIDTH] * HIDDEN_LAYERS, 2]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for size_in, size_out in zip(sizes[:-1], sizes[1:], strict=True):
            self.weights.append(torch.randn(1, size_in, size_out, generator=generator) * math.sqrt(2 / size_in))
            self.biases.append(torch.zeros(1, 1, size_out))
        with torch.no_grad():
            self.weights[0][:, -2:] = 0
            self.weights[-1].mul_(0.1)

    def repeated(self, runs: int) -> "Network":
        """The same network once for every run."""
        network = Network(torch.Generator())
        for parameters, own in ((network.weights, self.weights), (network.biases, self.biases)):
            for i, parameter in enumerate(own):
                parameters[i] = nn.Parameter(parameter.detach().repeat(runs, 1, 1))
        return network

    def forward(self, x: Tensor, t: Tensor, cond: Tensor, r: Tensor | None = None, w: Tensor | None = None) -> Tensor:
        return self.layers(x, t, cond, r, w)[-1]

    def layers(
        self, x: Tensor, t: Tensor, cond: Tensor, r: Tensor | None = None, w: Tensor | None = None
    ) -> list[Float[Tensor, "N _"]]:
        """What every layer makes of a batch; the last is the velocity."""
        interval = torch.zeros_like(t) if r is None else t - r
        weight = torch.zeros_like(t) if w is None else w
        turns = [f(k * math.pi * t) for k in (1, 2) for f in (torch.sin, torch.cos)]
        h = torch.cat([x, torch.stack([t, *turns], dim=1), cond, interval[:, None], weight[:, None]], dim=1)
        h, outputs = h.view(len(self.weights[0]), -1, _INPUTS), []
        for i, (layer_weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, h, layer_weight)
            h = nn.functional.silu(h) if i < HIDDEN_LAYERS else h
            outputs.append(h.flatten(0, 1))
        return outputs


class Discriminator(nn.Module):
    """A head on each hidden layer of the frozen teacher."""

    def __init__(self, teacher: Network, runs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.teacher = [teacher]  # in a list: its weights are not those of this module
        size = (HIDDEN_LAYERS * runs, WIDTH, WIDTH)
        self.hidden = nn.Parameter(torch.randn(size, generator=generator) * math.sqrt(2 / WIDTH))
        self.out = nn.Parameter(torch.zeros(HIDDEN_LAYERS * runs, WIDTH, 1))
        self.runs = runs

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Float[Tensor, "N H"]:
        features = torch.stack(self.teacher[0].layers(x, t, cond)[:-1])
        features = features.view(HIDDEN_LAYERS * self.runs, -1, WIDTH)
        logits = nn.functional.silu(features @ self.hidden) @ self.out
        return logits.view(HIDDEN_LAYERS, -1).T


def field_of(network: nn.Module, cond: Tensor) -> VelocityField:
    """A network under the conditions of one batch."""
    return lambda x, t, **extra: network(x, t, cond, **extra)


def teacher_field(teacher: Network, cond: Tensor) -> VelocityField:
    """The teacher, without guidance unless it is asked for with ``w``."""
    negative = field_of(teacher, torch.zeros_like(cond))
    return guided_field(field_of(teacher, cond), negative, Guidance(), expand=DenseLayout(len(cond)).expand)


def train_teacher(steps: int, *, batch_size: int = 1024, lr: float = 2e-3, seed: int = 0) -> Network:
    """Flow matching with one condition in ten left out; the learning rate falls to zero."""
    generator = torch.Generator().manual_seed(seed)
    network, path = Network(generator), LinearPath()
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(steps):
        x_0, classes = sample_board(batch_size, generator)
        cond = one_hot(classes) * (torch.rand(batch_size, 1, generator=generator) > 0.1)
        z, t = randn_like(x_0, generator=generator), torch.rand(batch_size, generator=generator)
        error = network(path.sample(x_0, z, t[:, None]), t, cond) - path.velocity(x_0, z)
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
        schedule.step()
    return network.requires_grad_(False)
