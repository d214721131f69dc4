"""The engine: every task has one outcome, whatever happens to its worker; parts of a set are told apart by hash."""

import hashlib
import os
import time

import pytest

from mdtdist.data import engine
from mdtdist.data.crews import Event, Reply, call
from mdtdist.data.engine import EngineConfig, Shard, run_tasks
from mdtdist.errors import InputError
from tests.data.tasks import Act


def outcomes(tasks, function=None, **options):
    found = list(run_tasks(function or Act(), tasks, EngineConfig(**options)))
    assert sorted(outcome.task for outcome in found) == sorted(tasks)
    return {outcome.task: outcome for outcome in found}


def test_in_this_process_tasks_run_in_order_and_a_bad_one_is_recorded(tmp_path):
    function = Act(log=tmp_path / "log")
    found = list(run_tasks(function, ["a", "raise:1", "b"], EngineConfig(workers=1)))
    assert [outcome.task for outcome in found] == ["a", "raise:1", "b"]
    assert [outcome.reason for outcome in found] == [None, "ValueError: bad 1", None]
    assert found[0].value.startswith("a") and found[1].value is None
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_a_dead_worker_costs_one_task():
    found = outcomes(["die:", "a"], workers=1, time_limit=60)
    assert "exit code 5" in found["die:"].reason and "run again" in found["die:"].reason
    assert found["a"].value == "a 1" and found["a"].reason is None  # one thread


@pytest.mark.slow
def test_a_killed_a_late_and_a_greedy_worker_cost_one_task_each(tmp_path):
    tasks = ["a", "b", "kill:", "raise:7", "sleep:60", "fill:3", "c", "d"]
    function = Act(log=tmp_path / "log")
    found = outcomes(tasks, function, workers=2, time_limit=3, memory_limit=2 * 2**30)
    reasons = {task: outcome.reason for task, outcome in found.items() if outcome.reason is not None}
    assert set(reasons) == {"kill:", "raise:7", "sleep:60", "fill:3"}
    assert "SIGKILL" in reasons["kill:"] and "out of memory?" in reasons["kill:"]
    assert reasons["raise:7"] == "ValueError: bad 7"
    assert reasons["sleep:60"] == "took longer than the time limit of 3 s" and 3 <= found["sleep:60"].seconds < 30
    assert reasons["fill:3"].startswith("MemoryError")
    assert len(set((tmp_path / "log").read_text().splitlines())) <= 4  # two, and one for each that was lost


@pytest.mark.slow
def test_what_keeps_a_worker_from_starting_ends_the_run():
    with pytest.raises(InputError, match="the model is missing"):
        outcomes(["a", "b"], Act(fault="input"), workers=2)
    with pytest.raises(RuntimeError, match="workers do not start.*exit code 3"):
        outcomes(["a", "b", "c", "d"], Act(fault="die"), workers=1, time_limit=9)


@pytest.mark.slow
def test_leaving_the_loop_early_ends_the_workers(tmp_path):
    running = run_tasks(Act(log=tmp_path / "log"), ["a", "sleep:60"], EngineConfig(workers=1, time_limit=90))
    assert next(running).task == "a"
    running.close()
    for line in (tmp_path / "log").read_text().splitlines():
        with pytest.raises(ProcessLookupError):
            os.kill(int(line), 0)


def test_set_up_that_fails_in_this_process_ends_the_run():
    with pytest.raises(InputError, match="the model is missing"):
        outcomes(["a"], Act(fault="input"), workers=1)


class PaperCrew:
    """A crew on paper: a task says what happens to its worker, and nothing takes time."""

    def __init__(self, stillborn: int = 0) -> None:
        self.alive, self.tasks, self.stillborn = {}, {}, stillborn
        self.most, self.count, self.killed, self.is_closed = 0, 0, [], False

    def start(self):
        self.count += 1
        self.alive[self.count] = "new"
        self.most = max(self.most, len(self.alive))
        return self.count

    def submit(self, worker, task):
        assert self.alive[worker] == "idle"
        self.alive[worker] = task

    def wait(self, timeout):
        events = []
        for worker, state in list(self.alive.items()):
            if state == "new" and self.stillborn:
                self.stillborn -= 1
                del self.alive[worker]
                events.append(Event(worker=worker, kind="died", reason="no memory"))
            elif state == "new":
                self.alive[worker] = "idle"
                events.append(Event(worker=worker, kind="ready"))
            elif state.startswith("die"):
                del self.alive[worker]
                events.append(Event(worker=worker, kind="died", reason="gone"))
            elif not state.startswith("sleep"):
                self.alive[worker] = "idle"
                events.append(Event(worker=worker, kind="done", reply=Reply(value=state.upper())))
        if not events:
            time.sleep(timeout)
        return events

    def kill(self, worker):
        self.killed.append(worker)
        del self.alive[worker]

    def close(self):
        self.is_closed = True


def dispatch(tasks, crew, monkeypatch, *, workers, max_workers=None, **options):
    monkeypatch.setattr(engine, "_open_crew", lambda function, config: (crew, config.workers))
    config = EngineConfig(workers=workers, **options)
    return list(run_tasks(None, tasks, config, max_workers=max_workers))


def test_lost_workers_are_replaced_and_every_task_ends_once(monkeypatch):
    crew = PaperCrew()
    tasks = ["a", "die1", "sleep1", "b", "die2", "sleep2", "c", "d", "e"]
    found = dispatch(tasks, crew, monkeypatch, workers=2, time_limit=0.05)
    assert sorted(outcome.task for outcome in found) == sorted(tasks) and crew.is_closed
    reasons = {outcome.task: outcome.reason for outcome in found}
    assert [reasons[name] for name in "abcde"] == [None] * 5
    assert reasons["die1"] == reasons["die2"] == "gone; run again to retry"
    assert reasons["sleep1"] == reasons["sleep2"] == "took longer than the time limit of 0.05 s"
    assert crew.most == 2 and crew.count == 6 and not crew.alive
    assert {outcome.value for outcome in found} == {None, *"ABCDE"}


def test_no_more_workers_than_tasks_or_than_a_stage_allows(monkeypatch):
    for tasks, most, expected in ((["a", "b"], None, 2), (list("abcdefgh"), 3, 3), (list("abcdefgh"), None, 5)):
        crew = PaperCrew()
        dispatch(tasks, crew, monkeypatch, workers=5, max_workers=most)
        assert crew.most == expected and crew.count == expected


def test_a_stillborn_worker_is_replaced_but_not_for_ever(monkeypatch):
    crew = PaperCrew(stillborn=2)
    assert [outcome.value for outcome in dispatch(["a"], crew, monkeypatch, workers=1, time_limit=9)] == ["A"]
    crew = PaperCrew(stillborn=3)
    with pytest.raises(RuntimeError, match="do not start: no memory"):
        dispatch(["a"], crew, monkeypatch, workers=1, time_limit=9)
    assert crew.is_closed


def test_no_tasks_start_nothing():
    assert list(run_tasks(Act(fault="die"), [], EngineConfig(workers=3))) == []


def test_a_reason_is_one_short_line():
    def fail(task):
        raise RuntimeError("x" * 900 + "\nmore")

    reply = call(fail, 0)
    assert isinstance(reply, Reply) and reply.reason is not None and reply.seconds >= 0
    assert reply.reason.startswith("RuntimeError: xxx") and len(reply.reason) == 200


def test_shards_share_out_all_keys_and_do_not_move_them():
    keys = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(600)]
    parts = [{key for key in keys if Shard(index=index, count=3).owns(key)} for index in (1, 2, 3)]
    assert set().union(*parts) == set(keys) and sum(map(len, parts)) == len(keys)
    assert all(150 < len(part) < 250 for part in parts)
    # A recorded assignment: it may never change, or machines would prepare each other's assets.
    assert [Shard(index=2, count=4).owns(f"key{number}") for number in range(12)] == RECORDED


RECORDED = [number in (1, 4, 5, 6, 9, 10) for number in range(12)]


def test_shard_is_read_from_text():
    assert Shard.parse("2/5") == Shard(index=2, count=5) and Shard.parse("2/5").suffix == "_shard_2_of_5"
    for text in ("0/4", "5/4", "1", "a/b", "1/2/3", "-1/3", ""):
        with pytest.raises(InputError, match="shard is"):
            Shard.parse(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "threads"},
        {"workers": 0},
        {"time_limit": 0},
        {"time_limit": float("nan")},
        {"memory_limit": 1000},
        {"address": "auto"},
    ],
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(InputError, match="engine|workers|time limit|memory limit|address"):
        EngineConfig(**wrong)
