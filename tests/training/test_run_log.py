"""Where the log goes: the file, TensorBoard, and a tracking service with the interface of Weights & Biases."""

import sys
import time
import types

import accelerate  # noqa: F401  looks for these packages when it is imported
import pytest

from mdtdist.errors import InputError
from mdtdist.training.run_log import RunLog, make_trackers
from mdtdist.training.trainer import Trainer
from tests.training.toy import ToyTask, crash, toy_config


class Service(types.ModuleType):
    """A stand-in for the packages wandb and trackio."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started, self.logged, self.finished = [], [], 0

    def init(self, **options):
        self.started.append(options)
        return self

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished += 1


@pytest.mark.parametrize("package", ["wandb", "trackio"])
def test_a_tracking_service_gets_every_record_and_the_settings(package, tmp_path, monkeypatch):
    service = Service()
    monkeypatch.setitem(sys.modules, package, service)
    config = toy_config(tracker=package)
    Trainer(ToyTask(), config, tmp_path / "student", settings={"task": "toy"}).run()
    (options,) = service.started
    assert options["project"] == "mdtdist" and options["name"] == f"{tmp_path.name}-student"
    assert options["resume"] == "allow" and options["config"]["task"] == "toy"
    assert options["config"]["trainer"]["batch_size"] == 3 and ("id" in options) == (package == "wandb")
    assert [step for step, values in service.logged if "loss" in values] == list(range(1, 13))
    assert [step for step, values in service.logged if "val/weight" in values] == [5, 10, 12]
    assert service.finished == 1


def test_a_service_is_finished_when_the_run_dies(tmp_path, monkeypatch):
    service = Service()
    monkeypatch.setitem(sys.modules, "wandb", service)
    with pytest.raises(RuntimeError, match="power"):
        Trainer(ToyTask({3: crash}), toy_config(tracker="wandb"), tmp_path).run()
    assert service.finished == 1


def test_a_missing_service_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"tracker is 'wandb', which is not installed; install mdtdist\[wandb\]"):
        make_trackers(tmp_path, toy_config(tracker="wandb"), step=0, settings={})


def test_tensorboard_is_on_where_it_is_installed(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = toy_config(tensorboard=True)
    with pytest.raises(RuntimeError, match="power"):
        Trainer(ToyTask({11: crash}), config, tmp_path).run()  # three steps past its checkpoint
    time.sleep(1.1)  # event files are named by the second; of one second, the tenth is read before the ninth
    Trainer(ToyTask(), config, tmp_path).run()
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 13))
    assert {"grad_norm", "lr", "val/weight", "cpu_seconds"} <= set(events.Tags()["scalars"])


def test_without_tensorboard_the_run_goes_without_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert make_trackers(tmp_path, toy_config(tensorboard=True), step=0, settings={}) == []


def test_a_process_that_does_not_write_has_no_file(tmp_path):
    log = RunLog(tmp_path, step=0, is_done=False, trackers=[], writes=False)
    assert log.write({"step": 1, "samples": 3, "lr": 4.00000000123e-8}) == {"step": 1, "samples": 3, "lr": 4e-8}
    log.close()
    assert list(tmp_path.iterdir()) == []
