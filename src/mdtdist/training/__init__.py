"""One trainer and its tasks: structure VAE, latent VAE, flow teacher, distillation."""

from mdtdist.evaluation.metrics.image_metrics import ssim
from mdtdist.training.curves import plot_run, plot_runs, read_log
from mdtdist.training.runs import TASKS, RunConfig, read_config, run
from mdtdist.training.trainer import Trainer, TrainerConfig

__all__ = [
    "TASKS",
    "RunConfig",
    "Trainer",
    "TrainerConfig",
    "plot_run",
    "plot_runs",
    "read_config",
    "read_log",
    "run",
    "ssim",
]
