"""The maths every method shares: path, times, guidance, sampler, layout."""

from mdtdist.flow.guidance import Guidance, VelocityField, guided_field
from mdtdist.flow.layout import DenseLayout, Layout, PackedLayout, randn_like
from mdtdist.flow.path import LinearPath
from mdtdist.flow.sampler import ConsistencySampler, EulerSampler, Sampler, SamplerStep, Trajectory
from mdtdist.flow.times import LogitNormalTime, TimeDistribution, UniformTime, rescale_time, time_grid

__all__ = [
    "ConsistencySampler",
    "DenseLayout",
    "EulerSampler",
    "Guidance",
    "Layout",
    "LinearPath",
    "LogitNormalTime",
    "PackedLayout",
    "Sampler",
    "SamplerStep",
    "TimeDistribution",
    "Trajectory",
    "UniformTime",
    "VelocityField",
    "guided_field",
    "randn_like",
    "rescale_time",
    "time_grid",
]
