"""Every registered method under every variant, with toy networks: what the general tests run on.

A method that is added to ``OBJECTIVES`` is in here by that alone.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from mdtdist.flow import Layout, VelocityField
from mdtdist.objectives import (
    OBJECTIVES,
    AdversarialOptions,
    DerivativeOptions,
    Fields,
    Latents,
    Metric,
    Normalization,
    SampleOptions,
    TeacherTrajectory,
)

CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method with its options.

    Attributes:
        method: name in ``OBJECTIVES``.
        label: of the options.
        config: the options.
    """

    method: str
    label: str
    config: Any

    def __str__(self) -> str:
        return f"{self.method}-{self.label}"

    @property
    def losses(self) -> dict[str, Callable[..., Any]]:
        """Losses of the networks that these options train; a discriminator without weight has none."""
        optional = {"fake", "discriminator"} - self.config.needs
        return {name: loss for name, loss in OBJECTIVES[self.method].losses.items() if name not in optional}

    def run(self, network: str, fields_: Fields, latents: Latents, *, seed: int = 0) -> Any:
        """The loss of one network."""
        generator = torch.Generator().manual_seed(seed)
        return self.losses[network](fields_, latents, config=self.config, generator=generator)


# Other ways through the code of a method than its variants take: of any method with options of such a type, ...
SHARED = {
    "backward": DerivativeOptions(kind="backward"),
    "central": DerivativeOptions(kind="central"),
    "jvp": DerivativeOptions(kind="jvp"),
    "residual_normalization": Normalization(kind="residual"),
    "l2": Metric(kind="l2"),
    "huber": Metric(kind="huber"),
    "two_steps": SampleOptions(steps=2),
}
# ... and of single methods.
OWN: dict[str, dict[str, dict[str, Any]]] = {
    "mdt": {"matching_alone": {"lambda_vd": 0.0}},
    "consistency": {"online": {"target": "online"}, "euler": {"solver": "euler"}},
    "phased_consistency": {"ema": {"target": "ema"}, "adversarial": {"adversarial_weight": 0.1}},
    "scm": {"clip": {"tangent": "clip"}, "constant": {"weighting": "constant"}},
    "sds": {"constant": {"weighting": "constant"}},
    "dmd": {"forward_kl": {"divergence": "forward_kl"}, "once": {"updates": 1}},
    "ladd": {"r1": {"adversarial": AdversarialOptions(r1_weight=1.0)}, "thrice": {"updates": 3}},
    "meanflow": {"all_jumps": {"p_equal": 0.0}},
    "shortcut": {"online": {"target": "online"}, "all_jumps": {"p_consistency": 1.0}},
}


def _cases() -> Iterator[Case]:
    for method, objective in OBJECTIVES.items():
        paper = objective.variant("paper")
        yield Case(method=method, label="paper", config=paper)
        for name in objective.variants:
            yield Case(method=method, label=name, config=objective.variant(name))
        for option, (label, value) in itertools.product(fields(paper), SHARED.items()):
            has_type = isinstance(getattr(paper, option.name), type(value))
            if has_type and getattr(paper, option.name) != value:
                yield Case(method=method, label=label, config=replace(paper, **{option.name: value}))
        for label, changes in OWN.get(method, {}).items():
            yield Case(method=method, label=label, config=replace(paper, **changes))


CASES = tuple(_cases())
TURNS = tuple((case, network) for case in CASES for network in case.losses)


class ToyNetwork(torch.nn.Module):
    """A random network on each row; takes ``r`` and ``w`` only if it is told to."""

    def __init__(self, layout: Layout, *, seed: int, takes: frozenset[str] = frozenset(), out: int = CHANNELS) -> None:
        super().__init__()
        self.layout, self.takes = layout, takes
        generator = torch.Generator().manual_seed(seed)
        self.hidden = torch.nn.Parameter(torch.randn(CHANNELS + 4, 16, generator=generator, dtype=torch.float64) / 2)
        self.out = torch.nn.Parameter(torch.randn(16, out, generator=generator, dtype=torch.float64) / 4)

    def forward(self, x: Tensor, t: Tensor, **extra: Any) -> Tensor:
        if unexpected := set(extra) - self.takes:
            raise TypeError(f"the field was given {', '.join(sorted(unexpected))}, which its method does not state")
        values = [t, extra.get("r"), extra.get("w"), torch.ones_like(t)]
        columns = [self._column(value, x, t) for value in values]
        return torch.tanh(torch.cat([x, *columns], dim=-1) @ self.hidden.to(x.dtype)) @ self.out.to(x.dtype)

    def _column(self, value: Any, x: Tensor, t: Tensor) -> Tensor:
        values = torch.as_tensor(0.0 if value is None else value, dtype=t.dtype).expand(t.shape)
        return self.layout.expand(values, x).to(x.dtype).expand(*x.shape[:-1], 1)


class ToyDiscriminator(ToyNetwork):
    """Logits of two heads, pooled over the rows of each sample."""

    def forward(self, x: Tensor, t: Tensor, **extra: Any) -> Tensor:
        logits = super().forward(x, t, **extra)
        return torch.stack([self.layout.mean(head[..., None]) for head in logits.unbind(-1)], dim=1)


def make_networks(case: Case, layout: Layout) -> dict[str, ToyNetwork]:
    """The networks that a method states to need, and no others."""
    takes = frozenset({"r"} if "interval" in case.config.needs else ()) | frozenset(
        {"w"} if "guidance" in case.config.needs else ()
    )
    networks = {
        "student": ToyNetwork(layout, seed=1, takes=takes),
        "teacher": ToyNetwork(layout, seed=2, takes=frozenset({"w"})),
        "target": ToyNetwork(layout, seed=3, takes=takes),
        "fake": ToyNetwork(layout, seed=4),
        "discriminator": ToyDiscriminator(layout, seed=5, out=2),
    }
    needed = {"student", "teacher", *case.config.needs}
    return {name: network for name, network in networks.items() if name in needed}


def make_latents(case: Case, layout: Layout, shape: tuple[int, ...], *, seed: int = 0) -> Latents:
    """Random latents in float64, with a made-up trajectory if the method needs one."""
    generator = torch.Generator().manual_seed(100 + seed)
    states = torch.randn(3, *shape, generator=generator, dtype=torch.float64).unbind()
    trajectory = TeacherTrajectory(times=(1.0, 0.6, 0.0), states=states) if "trajectory" in case.config.needs else None
    return Latents(x_0=states[-1], layout=layout, trajectory=trajectory)


def map_latents(latents: Latents, layout: Layout, change: Callable[[Tensor], Tensor]) -> Latents:
    """The same change to every tensor of the latents."""
    trajectory = latents.trajectory
    if trajectory is not None:
        trajectory = TeacherTrajectory(times=trajectory.times, states=tuple(map(change, trajectory.states)))
    return Latents(x_0=change(latents.x_0), layout=layout, trajectory=trajectory)


class Counter:
    """A field that counts its evaluations."""

    def __init__(self, field_: VelocityField) -> None:
        self.field = field_
        self.with_gradients = self.without = 0

    def __call__(self, x: Tensor, t: Tensor, **extra: Any) -> Tensor:
        if torch._C._functorch.is_functorch_wrapped_tensor(x):
            self.without += 2  # forward-mode: value and tangent
        elif torch.is_grad_enabled():
            self.with_gradients += 1
        else:
            self.without += 1
        return self.field(x, t, **extra)


@dataclass
class Tape:
    """Records what a loss draws, to give the same numbers, changed, to another."""

    draws: list[Tensor] = field(default_factory=list)

    @contextmanager
    def record(self) -> Iterator[None]:
        def wrap(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def recorded(*args: Any, **options: Any) -> Tensor:
                self.draws.append(draw(*args, **options))
                return self.draws[-1]

            return recorded

        with _patched(wrap):
            yield

    @contextmanager
    def replay(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Every draw is the recorded one under ``change``, and all of them must be asked for."""
        left = iter(self.draws)

        def wrap(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return lambda *args, **options: change(next(left))

        with _patched(wrap):
            yield
        assert next(left, None) is None


@contextmanager
def _patched(wrap: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]) -> Iterator[None]:
    names = ("rand", "randn", "randint", "bernoulli", "multinomial", "randperm")
    patches = {name: wrap(getattr(torch, name)) for name in names}
    with mock.patch.multiple(torch, **patches):
        yield
