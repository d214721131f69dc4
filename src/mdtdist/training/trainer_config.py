"""How a task is trained: budget, optimiser, averages, precision, processes, intervals."""

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long and how fast a task is trained.

    Attributes:
        num_samples: training budget in samples; steps = num_samples // batch_size.
        batch_size: samples per step, all processes and accumulated passes together.
        accumulate: passes whose gradients a process adds up to one step; a pass takes
            ``batch_size / (processes * accumulate)`` samples.
        lr: peak learning rate of AdamW.
        warmup: fraction of the steps with a linearly rising learning rate.
        final_lr: learning rate at the end as a fraction of the peak (cosine decay).
        weight_decay: AdamW weight decay.
        betas: AdamW moment decays.
        clip: largest gradient norm; larger gradients are scaled down.
        clip_mode: "norm" clips at ``clip``; "percentile" also at the ``clip_percentile`` of the norms of the last
            ``clip_window`` steps once there are as many (TRELLIS: clip 1, 95, 1000).
        clip_percentile: in (0, 100].
        clip_window: steps.
        ema: decay of the weight average that is evaluated and exported; less in the first steps.
        ema_mode: "constant" decays by ``ema``; "power" is the power-function average of EDM2, whose width is a share of
            the run so far.
        ema_gamma: exponent of "power"; 6.94 is EDM2's relative width of 0.1, 16.97 that of 0.05.
        precision: "bf16" and "fp16" run the passes under autocast, "fp32" does not; weights, averages and moments are
            float32 in each.
        checkpoint_activations: compute the activations of every block again in the backward pass instead of keeping
            them: about a third more time for much less memory.
        compile: compile the blocks of the trained networks (torch.compile).
        parallel: what several processes do with the networks: "ddp" keeps a whole copy in each, "fsdp" shares weights,
            averages and moments out (FSDP2).
        seed: decides every batch, time and noise together with the step.
        log_every: steps between log lines.
        eval_every: steps between evaluations on the validation split.
        save_every: steps between checkpoints.
        keep_checkpoints: checkpoints that are kept, the newest ones.
        accept_changes: go on with a run although settings of its task are others than it was started with.
        max_bad_steps: stop after this many steps with a non-finite loss or gradient.
        tensorboard: write the log for TensorBoard too, where that package is installed.
        tracker: further place the log is sent to.
        device: torch device; of several processes, "cuda" gives each its own.
    """

    num_samples: int
    batch_size: int
    lr: float
    accumulate: int = 1
    warmup: float = 0.02
    final_lr: float = 0.03
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.99)
    clip: float = 1.0
    clip_mode: Literal["norm", "percentile"] = "norm"
    clip_percentile: float = 95.0
    clip_window: int = 1000
    ema: float = 0.999
    ema_mode: Literal["constant", "power"] = "constant"
    ema_gamma: float = 6.94
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    checkpoint_activations: bool = False
    compile: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"
    seed: int = 0
    log_every: int = 20
    eval_every: int = 1000
    save_every: int = 200
    keep_checkpoints: int = 2
    accept_changes: bool = False
    max_bad_steps: int = 20
    tensorboard: bool = True
    tracker: Literal["none", "wandb", "trackio"] = "none"
    device: str = "cpu"

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for name in ("precision", "clip_mode", "ema_mode", "parallel", "tracker"):
            if (value := getattr(self, name)) not in (expected := get_args(hints[name])):
                raise ValueError(f"{name} is '{value}'; expected one of {', '.join(expected)}")
        if self.num_samples < self.batch_size or self.batch_size < 1:
            raise ValueError(f"num_samples {self.num_samples} must be at least batch_size {self.batch_size} >= 1")
        if len(self.betas) != 2:
            raise ValueError(f"betas is {self.betas}; expected two moment decays")
        if not 0 < self.clip_percentile <= 100:
            raise ValueError(f"clip_percentile is {self.clip_percentile}; expected a percentage in (0, 100]")
        if not 0 <= self.ema < 1 or self.ema_gamma <= 0:
            raise ValueError(
                f"ema is {self.ema} and ema_gamma {self.ema_gamma}; expected a decay in [0, 1) and an exponent above 0"
            )
        counts = ("accumulate", "clip_window", "log_every", "eval_every", "save_every", "keep_checkpoints")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")

    @property
    def num_steps(self) -> int:
        return self.num_samples // self.batch_size

    def lr_at(self, step: int) -> float:
        """Linear warm-up, then cosine decay to ``final_lr``."""
        warmup = max(1, int(self.warmup * self.num_steps))
        if step < warmup:
            return self.lr * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.num_steps - warmup)
        return self.lr * (self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * progress)))
