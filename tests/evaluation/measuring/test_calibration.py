"""Calibration rows: halves of one distribution are near, moved cameras stay near the truth."""

import math

import numpy as np
import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.evaluation.measuring.calibration import (
    HALVES,
    halves_distance,
    jitter,
    measure_rerendered,
    save_rows,
    summarize_halves,
    write_reconstructions,
)
from mdtdist.evaluation.measuring.judges import Judges
from mdtdist.evaluation.measuring.measure import Job
from mdtdist.evaluation.measuring.protocols import Ring, load_protocol
from mdtdist.evaluation.measuring.records import read_record
from mdtdist.evaluation.measuring.references import open_reference
from tests.evaluation.small_assets import ColorNetwork, write_boxes, write_protocol


def test_halves_of_one_distribution_have_no_kernel_distance_on_average():
    features = np.random.default_rng(0).normal(size=(60, 2, 4))
    interval = halves_distance(features, "kd", num_splits=100)
    assert interval.low < 0 < interval.high and abs(interval.value) < 0.1 * (interval.high - interval.low)


def test_halves_know_the_frechet_distance_of_their_size():
    # In one dimension E|m_a - m_b|^2 = 2 s^2 / n for independent halves of n; the spreads add little.
    features = np.random.default_rng(1).normal(size=(100, 1, 1))
    value = halves_distance(features, "fd", num_splits=100).value
    assert 2 / 50 < value < 4 / 50
    with pytest.raises(InputError, match="no halves"):
        halves_distance(features[:3], "fd")


def test_cameras_move_a_little_and_always_alike():
    cameras = Ring(yaws=(0.0, 90.0, 170.0), pitch=30.0, radius=2.0).cameras()
    moved = jitter("chair", cameras)
    for before, after in zip(cameras, moved, strict=True):
        a, b = before.camera_to_world[:3, 3], after.camera_to_world[:3, 3]
        assert float(b.norm()) == pytest.approx(2.0, abs=1e-5) and after.fov == before.fov
        angle = math.degrees(math.acos(min(1.0, float(a @ b) / 4)))
        assert 0.1 < angle < 3 * math.sqrt(2) + 1e-3
        assert torch.allclose(-after.camera_to_world[:3, 2], -b / 2, atol=1e-5)  # still looks at the middle
    assert torch.equal(jitter("chair", cameras)[1].camera_to_world, moved[1].camera_to_world)
    assert not torch.equal(jitter("lamp", cameras)[1].camera_to_world, moved[1].camera_to_world)


def test_rows_are_written_as_calibration(tmp_path):
    protocol = load_protocol(write_protocol(tmp_path))
    reference = open_reference(write_boxes(tmp_path / "true"))
    missing = {"clip": "no pictures"}
    judges = Judges(networks={"efficientnet": ColorNetwork()}, missing=missing)
    job = Job(reference=reference, protocol=protocol, judges=judges, cache=tmp_path / "cache")
    records = save_rows(job, tmp_path / "out", command="mdtdist evaluate --calibration")
    cameras, halves = records
    assert {record.system.kind for record in records} == {"calibration"} and halves.system.name == HALVES
    assert 0 < cameras.metrics["chamfer"].value < 0.05 and cameras.metrics["psnr"].value < 100
    assert set(halves.metrics) == {"fd_efficientnet", "kd_efficientnet"}
    assert halves.metrics["fd_efficientnet"].n == 2 and "halves have no pairs" in halves.not_measured["chamfer"]
    assert halves.not_measured["clip"] == "no pictures"
    assert read_record(tmp_path / "out/true_objects_halves.json").system == halves.system
    measured = measure_rerendered(job)
    assert summarize_halves(measured.measures, protocol, judges).metrics == halves.metrics
    with pytest.raises(InputError, match="no prepared folder"):
        write_reconstructions(reference, "mini", tmp_path / "vae")
