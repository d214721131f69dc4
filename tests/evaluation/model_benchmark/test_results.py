"""The report on made-up numbers whose verdicts are known."""

import json

import numpy as np
import pytest

from mdtdist.evaluation.metrics.kernel import KernelPairs
from mdtdist.evaluation.model_benchmark.baselines import Baseline
from mdtdist.evaluation.model_benchmark.benchmark import Quality
from mdtdist.evaluation.model_benchmark.methods import REFERENCE, TEACHER, Method
from mdtdist.evaluation.model_benchmark.page import results_page
from mdtdist.evaluation.model_benchmark.results import (
    INPUT_VIEWS,
    PICTURE_SCORES,
    PROTOCOLS,
    REFERENCE_SCORES,
    TRUTH_SCORES,
    Results,
    check_promises,
    speed_up,
    to_json,
    write_json,
)
from mdtdist.evaluation.model_benchmark.timing import FLOW_STAGES, STAGES
from mdtdist.evaluation.report_page.older import COMPARISON

NUM_OBJECTS = 12
ONE_STEP = Method(suffix=TEACHER, steps=(1, 1), guided=True)
STUDENT = Method(suffix="_student", steps=(1, 1), guided=False)


def quality(level: float, *, shift: float, nfe: tuple[int, int]) -> Quality:
    """Scores around ``level``; features that lie ``shift`` away from the true ones in every channel."""
    names = (*TRUTH_SCORES, *REFERENCE_SCORES, *PICTURE_SCORES)
    spread = np.linspace(-0.01, 0.01, NUM_OBJECTS)
    return Quality(
        scores={name: level + spread for name in names},
        features=true_features() + shift,
        pictures=np.zeros((NUM_OBJECTS, 4, 4, 3), np.uint8),
        nfe=nfe,
        num_empty=0,
    )


def true_features() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2 * NUM_OBJECTS, 3))


@pytest.fixture
def results() -> Results:
    seconds = {REFERENCE: 1.0, ONE_STEP: 0.1, STUDENT: 0.02}
    return Results(
        model="mini",
        object_ids=[f"{number:02d}" for number in range(NUM_OBJECTS)],
        seeds=[0],
        machine="a machine",
        methods=list(seconds),
        qualities={
            REFERENCE.name: [quality(0.5, shift=0.1, nfe=(44, 44))],
            ONE_STEP.name: [quality(0.9, shift=2.0, nfe=(2, 2))],
            STUDENT.name: [quality(0.3, shift=1.0, nfe=(1, 1))],
        },
        true_features=true_features(),
        views=2,
        seconds={
            method.name: {stage: [value if stage in FLOW_STAGES else 0.05] * 4 for stage in STAGES}
            for method, value in seconds.items()
        },
        baselines=[
            Baseline(name="ridge", choice="", scores={name: np.full(NUM_OBJECTS, 0.4) for name in TRUTH_SCORES})
        ],
        guidance=(1.0, 1.0),
    )


def test_frechet_distance_of_shifted_features(results):
    assert results.frechet(STUDENT) == pytest.approx(3 * 1.0**2)
    assert results.frechet(ONE_STEP) == pytest.approx(3 * 2.0**2)


def test_kernel_distance_is_that_of_the_features(results):
    features = results.qualities[STUDENT.name][0].features
    assert results.kernel(STUDENT) == KernelPairs.of(features, true_features(), views=2).distance() > 0


def test_speed_up_is_the_median_ratio(results):
    assert speed_up(results, STUDENT, FLOW_STAGES).value == pytest.approx(50)
    assert speed_up(results, STUDENT, STAGES).value == pytest.approx(2.15 / 0.19)


def test_checks_follow_the_numbers(results):
    found = {check.promise: check.holds for check in check_promises(results)}
    assert found == {
        "student 1+1 beats teacher 1+1 guided in Frechet distance": True,
        "student 1+1 beats teacher 1+1 guided in kernel distance": True,
        "student 1+1 beats teacher 1+1 guided in structure distance to the teacher's 25+25": True,
        "student 1+1 beats teacher 1+1 guided in latent distance to the teacher's 25+25": True,
        "student 1+1, flow stages: at least 25 times faster than teacher 25+25 guided": True,
        "student 1+1, image to Gaussians: at least 9 times faster than teacher 25+25 guided": True,
        "teacher 25+25 guided beats the best baseline (ridge) in IoU": True,
        "teacher 25+25 guided beats the best baseline (ridge) in F1 at one voxel": True,
    }


def test_a_broken_promise_is_told(results):
    worse = {STUDENT.name: [quality(0.95, shift=3.0, nfe=(1, 1))]}
    slow = {STUDENT.name: {stage: [0.5] * 4 for stage in STAGES}}
    object.__setattr__(results, "qualities", {**results.qualities, **worse})
    object.__setattr__(results, "seconds", {**results.seconds, **slow})
    assert [check.holds for check in check_promises(results)] == [False] * 6 + [True] * 2


def test_page_and_numbers_agree(results, tmp_path):
    checks = check_promises(results)
    write_json(tmp_path / "r.json", to_json(results, checks))
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["methods"]["student 1+1"]["frechet"] == pytest.approx(3)
    assert record["methods"]["student 1+1"]["scores"]["iou"][0][0] == pytest.approx(0.29)
    assert [check["holds"] for check in record["checks"]] == [True] * 8
    page = results_page(results, checks, title="t", command="mdtdist evaluate", figures=[("a.png", "caption")])
    assert "| student 1+1 | 1 + 1 = 2 |" in page and "50.0 [50.0, 50.0]" in page
    assert "![caption](a.png)" in page and "*ridge*" in page and "**no**" not in page


def test_every_protocol_says_where_its_pictures_are_taken_from():
    assert set(PROTOCOLS.values()) == set(INPUT_VIEWS)
    assert PROTOCOLS["mini"] == COMPARISON  # the name under which reports read the comparison
