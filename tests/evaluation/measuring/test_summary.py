"""From arrays per object to numbers with intervals: closed forms, units, what is missing."""

import dataclasses

import numpy as np
import pytest

from mdtdist.evaluation.measuring.judges import Judges
from mdtdist.evaluation.measuring.object_measures import ALIGNMENT, EMPTY, IS_GREY
from mdtdist.evaluation.measuring.protocols import BootstrapSpec, NetworkSpec, PictureSpec, PointSpec, Protocol, Ring
from mdtdist.evaluation.measuring.summary import Measures, format_table, set_distance, summarize
from mdtdist.evaluation.metrics.frechet import fit_gaussian, frechet_distance

RING = Ring(yaws=(0.0, 90.0))
METRICS = ("fd_efficientnet", "kd_efficientnet", "fd_dinov2", "clip", "chamfer", "psnr", "coverage", "diversity")


@dataclasses.dataclass(frozen=True)
class FakeNetwork:
    name: str = "fake-net-1234"
    channels: int = 3


def protocol(metrics=METRICS):
    return Protocol(
        id="own",
        title="",
        objects="",
        metrics=metrics,
        networks=(NetworkSpec(name="efficientnet"), NetworkSpec(name="dinov2")),
        pictures=PictureSpec(frechet=RING, clip=RING, size=16, background=1.0),
        points=PointSpec(rings=(RING,), size=16, count=10, tau=0.05, iou_resolution=8),
        bootstrap=BootstrapSpec(resamples=50, frechet_resamples=20),
    )


def judges():
    return Judges(
        networks={"efficientnet": FakeNetwork()},
        clip=object(),
        names={"clip": "clip-net"},
        missing={"fd_dinov2": "no weights: give --weights dinov2=FILE"},
    )


def measures(num=12, seeds=(0, 1), shift=0.0):
    generator = np.random.default_rng(0)

    def features():
        values = generator.normal(size=(2, 3)).astype(np.float32)
        return {"features/fake-net-1234": values, IS_GREY: np.array(False), ALIGNMENT: np.array("as it is")}

    truths = [features() for _ in range(num)]
    outputs = {
        seed: [
            truth
            | {"features/fake-net-1234": truth["features/fake-net-1234"] + shift + 0.1 * seed}
            | {"clip/clip-net": np.array(0.5 + 0.1 * seed), "chamfer": np.array(index / num), "psnr": np.array(20.0)}
            for index, truth in enumerate(truths)
        ]
        for seed in seeds
    }
    return Measures(ids=[f"o{i}" for i in range(num)], outputs=outputs, truths=truths)


def test_scores_are_means_over_seeds_in_the_units_of_tables():
    summary = summarize(measures(), protocol(), judges())
    clip, chamfer = summary.metrics["clip"], summary.metrics["chamfer"]
    assert (clip.value, clip.unit, clip.better, clip.network) == (pytest.approx(55.0), "x 100", "higher", "clip-net")
    assert chamfer.value == pytest.approx(5.5 / 12) and chamfer.better == "lower" and chamfer.n == 12
    assert chamfer.low < chamfer.value < chamfer.high
    assert summary.per_object["clip"] == pytest.approx([55.0] * 12)
    assert summary.metrics["psnr"].unit == "dB"
    assert list(summary.metrics) == [name for name in METRICS if name != "fd_dinov2"]
    assert summary.not_measured == {"fd_dinov2": "no weights: give --weights dinov2=FILE"}


def test_a_shift_of_all_features_is_its_own_frechet_distance():
    # Equal covariances: the distance is |shift|^2; 3 channels, seeds at 0.5 and 0.6.
    summary = summarize(measures(shift=0.5), protocol(), judges())
    assert summary.metrics["fd_efficientnet"].value == pytest.approx((3 * 0.25 + 3 * 0.36) / 2, abs=1e-5)
    assert summary.metrics["diversity"].value == pytest.approx(0.1 * np.sqrt(6), abs=1e-5)  # two views of 3 channels
    same = summarize(measures(seeds=(0,)), protocol(), judges())
    assert same.metrics["coverage"].value == 1.0 and same.metrics["coverage"].low is None
    assert same.metrics["fd_efficientnet"].value == pytest.approx(0, abs=1e-9)
    assert "several seeds" in same.not_measured["diversity"]


def test_kernel_distances_are_printed_times_100():
    spec, data = protocol().bootstrap, measures(shift=0.5)
    key = "features/fake-net-1234"
    plain = set_distance("kd", data.features(key), data.true_features(key), spec)
    metric = summarize(data, protocol(), judges()).metrics["kd_efficientnet"]
    assert (metric.value, metric.low) == (pytest.approx(100 * plain.value), pytest.approx(100 * plain.low))
    assert metric.unit == "x 100"


@pytest.mark.parametrize("num", [4, 40])
def test_the_frechet_distance_is_that_of_fitted_gaussians(num):
    # 4 objects take the products of rows, 40 the covariances.
    generator = np.random.default_rng(1)
    made, true = generator.normal(size=(num, 2, 5)), generator.normal(1.0, 2.0, size=(num, 2, 5))
    expected = frechet_distance(*fit_gaussian(made.reshape(-1, 5)), *fit_gaussian(true.reshape(-1, 5)))
    spec = BootstrapSpec(frechet_resamples=30)
    interval = set_distance("fd", [made], true, spec)
    assert interval.value == pytest.approx(expected, rel=1e-8)
    assert interval.low < interval.value < interval.high


def test_both_ways_to_a_frechet_distance_give_one_interval():
    generator = np.random.default_rng(2)
    made, true = generator.normal(size=(9, 2, 8)), generator.normal(size=(9, 2, 8))  # 18 rows, 8 channels: covariances
    wide = [np.concatenate([part, np.zeros((9, 2, 30))], axis=2) for part in (made, true)]  # 38: products of rows
    spec = BootstrapSpec(frechet_resamples=15)
    one, other = set_distance("fd", [made], true, spec), set_distance("fd", wide[:1], wide[1], spec)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-7)


def test_a_system_without_any_colour_gets_geometry_only():
    data = measures()
    for part in data.outputs.values():
        for arrays in part:
            arrays[IS_GREY] = np.array(True)
    data.outputs[0][3] |= {IS_GREY: np.array(False), ALIGNMENT: np.array(EMPTY)}  # says nothing about colours
    summary = summarize(data, protocol(), judges())
    assert list(summary.metrics) == ["chamfer"]
    assert summary.not_measured["clip"] == "no file has a colour: geometry only"
    data.outputs[1][5][IS_GREY] = np.array(False)  # some objects are grey, the system is not
    assert "clip" in summarize(data, protocol(), judges()).metrics


def test_the_table_lists_what_is_missing():
    summary = summarize(measures(), protocol(), judges())
    table = format_table(summary.metrics, summary.not_measured)
    assert "clip +" in table and "chamfer -" in table
    assert "fd_dinov2" in table and "not measured: no weights: give --weights dinov2=FILE" in table
