"""The plan of the comparison is consistent: every run is a config that the trainer takes, within its budget."""

import sys
from pathlib import Path

import pytest

from mdtdist.training import read_config

RECIPE = Path(__file__).parents[2] / "recipes" / "compare"


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    for name in ("plan", "report", "evaluate"):
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
    assert len({len(method.lrs) for method in whole.methods}) == 1
    chosen = {method.name: method.lrs[0] for method in whole.methods}
    swept = {run.folder for run in whole.sweep("structure")}
    final = list(whole.final("structure", chosen))
    assert len(final) == len(whole.seeds) * len(whole.methods)
    assert {run.folder for run in final if run.seed == whole.seeds[0]} <= swept


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
