"""Distillation objectives, one file per method: pure functions of networks seen as fields, latents and a generator."""

from mdtdist.objectives.adversarial import (
    AdversarialLoss,
    AdversarialOptions,
    DiscriminatorLoss,
    adversarial_loss,
    discriminator_loss,
    generator_loss,
)
from mdtdist.objectives.consistency import (
    LCM,
    RELEASED_CM,
    ConsistencyConfig,
    ConsistencyLoss,
    ConsistencyPair,
    consistency_loss,
    consistency_pair,
)
from mdtdist.objectives.dmd import (
    GAN,
    VSD,
    DMDConfig,
    DMDLoss,
    FakeLoss,
    distribution_matching_loss,
    dmd_discriminator_loss,
    dmd_fake_loss,
    dmd_loss,
)
from mdtdist.objectives.guidance_distillation import (
    GuidanceConfig,
    GuidanceLoss,
    guidance_loss,
    guided_velocity_distance,
)
from mdtdist.objectives.ladd import LADDConfig, ladd_discriminator_loss, ladd_loss
from mdtdist.objectives.mdt import (
    OURS,
    RELEASED,
    MDTConfig,
    MDTLoss,
    mdt_loss,
    velocity_distillation_loss,
    velocity_matching_loss,
)
from mdtdist.objectives.meanflow import (
    FEW_STEP,
    MeanFlowConfig,
    MeanFlowLoss,
    average_velocity_residual,
    meanflow_loss,
)
from mdtdist.objectives.method import Cost, Fields, Latents, MethodConfig, Objective, TeacherTrajectory
from mdtdist.objectives.options import DerivativeOptions, Metric, Normalization, TimeOptions
from mdtdist.objectives.phased import (
    PhasedConsistencyConfig,
    PhasedConsistencyLoss,
    phase_end,
    phased_consistency_loss,
    phased_discriminator_loss,
)
from mdtdist.objectives.residual import TransportResidual, drive, total_derivative, transport_residual
from mdtdist.objectives.samples import RenoiseOptions, SampleOptions
from mdtdist.objectives.scm import SCMConfig, SCMLoss, scm_loss, scm_tangent
from mdtdist.objectives.sds import SDSConfig, SDSLoss, score_distillation_loss, sds_loss
from mdtdist.objectives.shortcut import ShortcutConfig, ShortcutLoss, shortcut_loss, two_half_jumps
from mdtdist.objectives.trajectory import TrajectoryConfig, TrajectoryLoss, trajectory_loss

OBJECTIVES: dict[str, Objective] = {
    "mdt": Objective(config=MDTConfig, losses={"student": mdt_loss}, variants={"released": RELEASED, "ours": OURS}),
    "consistency": Objective(
        config=ConsistencyConfig,
        losses={"student": consistency_loss},
        variants={"lcm": LCM, "released": RELEASED_CM},
    ),
    "phased_consistency": Objective(
        config=PhasedConsistencyConfig,
        losses={"student": phased_consistency_loss, "discriminator": phased_discriminator_loss},
    ),
    "scm": Objective(config=SCMConfig, losses={"student": scm_loss}),
    "sds": Objective(config=SDSConfig, losses={"student": sds_loss}),
    "dmd": Objective(
        config=DMDConfig,
        losses={"fake": dmd_fake_loss, "discriminator": dmd_discriminator_loss, "student": dmd_loss},
        variants={"gan": GAN, "vsd": VSD},
    ),
    "ladd": Objective(config=LADDConfig, losses={"discriminator": ladd_discriminator_loss, "student": ladd_loss}),
    "meanflow": Objective(config=MeanFlowConfig, losses={"student": meanflow_loss}, variants={"few_step": FEW_STEP}),
    "shortcut": Objective(config=ShortcutConfig, losses={"student": shortcut_loss}),
    "guidance": Objective(config=GuidanceConfig, losses={"student": guidance_loss}),
    "trajectory": Objective(config=TrajectoryConfig, losses={"student": trajectory_loss}),
}

__all__ = [
    "FEW_STEP",
    "LCM",
    "OBJECTIVES",
    "RELEASED_CM",
    "AdversarialLoss",
    "AdversarialOptions",
    "ConsistencyConfig",
    "ConsistencyLoss",
    "ConsistencyPair",
    "Cost",
    "DMDConfig",
    "DMDLoss",
    "DerivativeOptions",
    "DiscriminatorLoss",
    "FakeLoss",
    "Fields",
    "LADDConfig",
    "GuidanceConfig",
    "GuidanceLoss",
    "Latents",
    "MDTConfig",
    "MDTLoss",
    "MeanFlowConfig",
    "MeanFlowLoss",
    "MethodConfig",
    "Metric",
    "Normalization",
    "Objective",
    "PhasedConsistencyConfig",
    "PhasedConsistencyLoss",
    "RenoiseOptions",
    "SCMConfig",
    "SCMLoss",
    "SDSConfig",
    "SDSLoss",
    "SampleOptions",
    "ShortcutConfig",
    "ShortcutLoss",
    "TeacherTrajectory",
    "TimeOptions",
    "TrajectoryConfig",
    "TrajectoryLoss",
    "TransportResidual",
    "adversarial_loss",
    "average_velocity_residual",
    "consistency_loss",
    "consistency_pair",
    "discriminator_loss",
    "distribution_matching_loss",
    "dmd_discriminator_loss",
    "dmd_fake_loss",
    "dmd_loss",
    "drive",
    "generator_loss",
    "ladd_discriminator_loss",
    "ladd_loss",
    "guidance_loss",
    "guided_velocity_distance",
    "mdt_loss",
    "meanflow_loss",
    "phase_end",
    "phased_consistency_loss",
    "phased_discriminator_loss",
    "scm_loss",
    "scm_tangent",
    "score_distillation_loss",
    "sds_loss",
    "shortcut_loss",
    "total_derivative",
    "trajectory_loss",
    "transport_residual",
    "two_half_jumps",
    "velocity_distillation_loss",
    "velocity_matching_loss",
]
