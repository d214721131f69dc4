"""The engine on a Ray cluster of this machine: the same outcomes as with processes."""

import os
from pathlib import Path

import pytest

from mdtdist.data import PrepareConfig, prepare
from mdtdist.data.crews import _import_ray
from mdtdist.data.engine import EngineConfig, run_tasks
from mdtdist.errors import InputError
from tests.data.tasks import Act
from tests.data.test_layouts import PLAIN, asset


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'mdtdist\[ray\]'"):
        _import_ray()


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two cores whose workers find the tests."""
    ray = pytest.importorskip("ray")
    root = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    os.environ["RAY_worker_niceness"] = "0"  # or they starve beside other tests
    options = {"include_dashboard": False, "log_to_driver": False, "num_gpus": 0}
    context = ray.init(address="local", num_cpus=2, **options)
    yield context.address_info["address"]
    ray.shutdown()


@pytest.mark.slow
def test_a_dead_a_late_and_a_bad_task_cost_nothing_but_themselves(cluster, tmp_path):
    tasks = ["a", "die:", "raise:7", "sleep:99", "b", "fill:30", "c"]
    config = EngineConfig(kind="ray", address="auto", time_limit=5, memory_limit=8 * 2**30)
    found = {outcome.task: outcome for outcome in run_tasks(Act(log=tmp_path / "log"), tasks, config)}
    assert sorted(found) == sorted(tasks)
    reasons = {task: outcome.reason for task, outcome in found.items() if outcome.reason is not None}
    assert set(reasons) == {"die:", "raise:7", "sleep:99", "fill:30"}
    assert "the worker died" in reasons["die:"] and reasons["raise:7"] == "ValueError: bad 7"
    assert "time limit of 5 s" in reasons["sleep:99"] and reasons["fill:30"].startswith("MemoryError")
    assert found["a"].value.startswith("a") and found["c"].value.startswith("c")


@pytest.mark.slow
def test_what_keeps_the_workers_from_starting_ends_the_run(cluster):
    with pytest.raises(InputError, match="the model is missing"):
        list(run_tasks(Act(fault="input"), ["a"], EngineConfig(kind="ray", address="auto", workers=1)))


@pytest.mark.slow
def test_prepare_on_ray_makes_the_same_folder(cluster, tmp_path):
    assets = [asset(number, path=Path(f"/models/{number}.glb")) for number in range(8)]
    assets.append(asset(8, "die:", path=Path("/models/8.glb")))
    prepare(assets[:8], PrepareConfig(out=tmp_path / "one", layout=PLAIN, workers=1))
    engine = EngineConfig(kind="ray", address="auto")
    rows = prepare(assets, PrepareConfig(out=tmp_path / "ray", layout=PLAIN, engine=engine))
    assert [row["status"] for row in rows] == ["ok"] * 8 + ["failed"]
    assert "first: the worker died" in rows[8]["reason"]
    for name in ("first", "second"):
        contents = [
            {path.name: path.read_text() for path in (tmp_path / out / name).iterdir()} for out in ("one", "ray")
        ]
        assert contents[0] == contents[1] and len(contents[0]) == 8


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named():
    ray = pytest.importorskip("ray")
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(InputError, match="no Ray cluster answers at 'auto'"):
        list(run_tasks(Act(), ["a"], EngineConfig(kind="ray", address="auto")))
