"""The plan of the comparison is consistent: every run is a config that the trainer takes, within its budget."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout
from mdtdist.training import read_config

RECIPE = Path(__file__).parents[2] / "recipes" / "compare"


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    for name in ("plan", "evaluate", "validate"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import plan

    return plan


def test_every_run_spends_its_budget_and_is_a_valid_config(plan, tmp_path):
    whole = plan.read_plan()
    for stage in plan.STAGES:
        for run in whole.sweep(stage):
            cost = run.method.config.cost.forwards(is_guided=True) * run.stage.batch_size
            assert run.stage.budget - cost < run.num_steps * cost <= run.stage.budget
            plan.write_toml(tmp_path / "run.toml", run.config())
            config = read_config(tmp_path / "run.toml")
            assert config.settings.method == run.method.config
            assert config.trainer.num_steps == run.num_steps and config.out == run.folder


def test_all_methods_get_as_many_learning_rates_and_the_first_seed_is_not_trained_twice(plan):
    whole = plan.read_plan()
    for name, stage in whole.stages.items():
        swept = list(whole.sweep(name))
        assert len(swept) == len(stage.lrs) * len(whole.methods) and len(stage.lrs) > 1
        final = list(whole.final(name, {method.name: stage.lrs[0] for method in whole.methods}))
        assert len(final) == len(whole.seeds) * len(whole.methods)
        assert {run.folder for run in final if run.seed == whole.seeds[0]} <= {run.folder for run in swept}


def test_the_sampling_of_stored_trajectories_is_paid_for(plan):
    whole = plan.read_plan()
    settings = {"trajectories": {"share": 0.5, "steps": 4, "rescale_t": 3.0}}
    method = plan.Method(name="t", label="t", objective="trajectory", settings=settings)
    run = whole.run("structure", method, 1.0, 0)
    stored = run.config()["distil"]["trajectories"]["num_batches"]
    # Times 1, 0.9, 0.75 and 0.5 of the grid are all inside the interval of the guidance: eight forwards.
    spent = run.stage.batch_size * (8 * stored + 3 * run.num_steps)
    assert 0.95 * run.stage.budget < spent <= run.stage.budget
    assert 8 * stored * run.stage.batch_size == pytest.approx(run.stage.budget / 2, rel=0.05)


def test_a_sweep_of_some_methods_keeps_what_was_chosen_for_the_others(plan, monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "run", raising=False)
    import run

    whole = dataclasses.replace(plan.read_plan(only=["vm", "ours"]), out=tmp_path)
    (tmp_path / "structure").mkdir()
    (tmp_path / "structure" / "chosen.json").write_text('{"cm": 3.0, "vm": 0.3}')
    scores = {"ours": {0.3: 3.0, 1.0: 1.0, 3.0: 2.0}, "vm": {0.3: None, 1.0: None, 3.0: 5.0}}

    def train_all(runs, workers):
        found = {one.folder: scores[one.method.name][round(one.lr / one.stage.lr, 6)] for one in runs}
        return {folder: None if score is None else {run.CRITERION: score} for folder, score in found.items()}

    monkeypatch.setattr(run, "train_all", train_all)
    # The lowest of those that did not fail.
    assert run.choose(whole, "structure", 1) == whole.chosen("structure") == {"cm": 3.0, "vm": 3.0, "ours": 1.0}


def test_a_result_counts_only_for_the_weights_it_was_measured_with(plan, monkeypatch, tmp_path):
    import evaluate

    whole = dataclasses.replace(plan.read_plan(only=["ours"]), out=tmp_path)
    for stage in plan.STAGES:
        folder = whole.run(stage, whole.methods[0], 1.0, 0).folder
        folder.mkdir(parents=True)
        (folder / "student.safetensors").write_bytes(b"first")
        (folder / "validation.json").write_text("{}")
        (tmp_path / stage / "chosen.json").write_text('{"ours": 1.0}')
    row = evaluate.rows(whole, 0)[-1]
    assert row.name == "ours_2" and not evaluate._is_measured(whole, row, 0)
    evaluate._save(evaluate.result_path(whole, row.name, 0), {"weights": np.array(evaluate._weights(whole, row, 0))})
    assert evaluate._is_measured(whole, row, 0)
    (folder / "student.safetensors").write_bytes(b"second")
    assert not evaluate._is_measured(whole, row, 0)


def test_moments_are_per_sample_and_see_a_lost_spread(plan):
    import validate

    packed = PackedLayout((5, 3))
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    features = validate.moments(x, packed)
    assert torch.allclose(features[1:], validate.moments(x[5:], PackedLayout((3,))))
    assert torch.allclose(features, validate.moments(x[[4, 0, 3, 1, 2, 7, 5, 6]], packed))
    grid = torch.randn(2, 4, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    blurred = grid.mean((2, 3, 4), keepdim=True).expand_as(grid)
    spreads = [validate.moments(one, DenseLayout(2))[:, -4:] for one in (grid, blurred)]
    assert (spreads[0] > 0.5).all() and (spreads[1] < 1e-6).all()
