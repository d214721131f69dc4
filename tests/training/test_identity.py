"""With which configs a run goes on."""

import dataclasses
from pathlib import Path

import pytest

from mdtdist.errors import InputError
from mdtdist.training.identity import check_identity, identity_of
from mdtdist.training.trainer import Trainer
from tests.training.toy import ToyTask, toy_config

SETTINGS = {
    "task": "distil",
    "distil": {
        "objective": "mdt",
        "options": {"lambda_vd": 1.0, "time": {"p_noise": 0.2}},
        "interval": (0.5, 1.0),
        "student": None,
        "teacher_steps": 25,
        "data": {"prepared": Path("data"), "decoder": Path("dec")},
    },
}


def changed(**changes):
    settings = {**SETTINGS, "distil": {**SETTINGS["distil"], **changes}}
    return identity_of(toy_config(), settings)


def check(now, before=None) -> None:
    check_identity(before or identity_of(toy_config(), SETTINGS), now, folder=Path("runs/x"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "dmd"}, "distil.objective 'mdt' so far, and now it is 'dmd'"),
        (
            {"options": {"lambda_vd": 0.5, "time": {"p_noise": 0.2}}},
            "distil.options.lambda_vd 1.0 so far, and now it is 0.5",
        ),
        ({"options": {"time": {"p_noise": 0.2}}}, "distil.options.lambda_vd 1.0 so far, and now it is not set"),
        ({"options": {**SETTINGS["distil"]["options"], "dt": 1}}, "distil.options.dt not set so far, and now it is 1"),
        ({"interval": (0.0, 1.0)}, "distil.interval [0.5, 1.0] so far, and now it is [0.0, 1.0]"),
        ({"data": {"prepared": Path("other"), "decoder": Path("dec")}}, "distil.data.prepared"),
    ],
)
def test_what_changes_the_training_is_refused_with_both_values(changes, words):
    with pytest.raises(InputError) as caught:
        check(changed(**changes))
    message = str(caught.value)
    assert message.startswith("runs/x was trained with distil.") and words in message
    assert "set it back, or give another out" in message and "\n" not in message


def test_changes_that_are_accepted_are_warned_of(caplog):
    before = identity_of(toy_config(), SETTINGS)
    check_identity(before, changed(objective="dmd"), folder=Path("runs/x"), accept_changes=True)
    assert "trained with distil.objective 'mdt' so far, and now it is 'dmd'" in caplog.text
    for now in (identity_of(toy_config(seed=1), SETTINGS), identity_of(toy_config(), {"task": "flow", "flow": {}})):
        with pytest.raises(InputError, match="set it back"):
            check_identity(before, now, folder=Path("runs/x"), accept_changes=True)


def test_another_task_is_refused():
    with pytest.raises(InputError, match="trained with task 'distil' so far, and now it is 'flow'"):
        check(identity_of(toy_config(), {"task": "flow", "flow": {}}))


def test_how_a_run_is_judged_and_how_long_it_lasts_may_change():
    check(changed(teacher_steps=50, data={"prepared": Path("data"), "decoder": Path("other")}))
    check(identity_of(toy_config(num_samples=3000, lr=1.0, eval_every=7, precision="bf16"), SETTINGS))


def test_the_same_place_may_be_written_in_another_way(monkeypatch, tmp_path):
    before = changed(data={"prepared": tmp_path / "data", "decoder": None})
    monkeypatch.chdir(tmp_path)
    check(changed(data={"prepared": Path("data"), "decoder": None}), before)


def test_a_field_that_is_new_and_not_set_is_no_change():
    check(changed(cache=None))


def test_settings_survive_the_checkpoint(tmp_path):
    Trainer(ToyTask(), toy_config(), tmp_path, settings=SETTINGS).run()
    Trainer(ToyTask(), toy_config(), tmp_path, settings=SETTINGS)
    other = {**SETTINGS, "distil": {**SETTINGS["distil"], "objective": "scm"}}
    with pytest.raises(InputError, match="distil.objective 'mdt' so far"):
        Trainer(ToyTask(), toy_config(), tmp_path, settings=other)


def test_fields_of_the_trainer_are_all_known():
    names = {field.name for field in dataclasses.fields(toy_config())}
    assert {"batch_size", "seed"} <= names and set(identity_of(toy_config(), {})["trainer"]) == names
