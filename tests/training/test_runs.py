"""``mdtdist train``: from a config file to a run folder."""

import io
import json

import pytest
from tqdm import tqdm

from mdtdist.cli.main import main
from mdtdist.cli.train import start_bar
from mdtdist.models import load
from mdtdist.training.checkpoint import load_checkpoint
from mdtdist.training.runs import read_config, run
from tests.training.tiny import DECODERS, ENCODERS, FLOWS, stage_values, write_toml
from tests.training.toy import equal


@pytest.fixture
def config(prepared, tmp_path):
    """Two steps of the structure VAE."""
    values = {
        "task": "structure_vae",
        "out": str(tmp_path / "run"),
        "trainer": {"num_samples": 4, "batch_size": 2, "lr": 1e-3, "log_every": 1, "seed": 3},
        "structure_vae": {
            "data": str(prepared.path),
            "encoder": ENCODERS["structure"][1],
            "decoder": DECODERS["structure"][1],
        },
    }
    return write_toml(tmp_path / "config.toml", values)


def test_training_by_command_fills_the_run_folder(config, tmp_path, capsys):
    assert main(["train", str(config), "--trainer.lr=0.5", "--structure_vae.kl-weight", "0.25"]) == 0
    out = capsys.readouterr().out
    assert "iou" in out and "curves.png" in out
    folder = tmp_path / "run"
    kept = json.loads((folder / "settings.json").read_text())
    assert kept["trainer"]["lr"] == 0.5 and kept["settings"]["kl_weight"] == 0.25
    assert (folder / "config.toml").read_text() == config.read_text()
    assert load(folder / "ss_enc") and load(folder / "ss_dec")
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [record["samples"] for record in records] == [2, 4, 4] and "val/iou" in records[-1]


def test_a_run_folder_can_be_continued_from_its_own_config(config, tmp_path, capsys):
    assert main(["train", str(config)]) == 0
    assert main(["train", str(tmp_path / "run" / "config.toml"), "--trainer.num_samples", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["out"] == str(tmp_path / "run")
    assert load_checkpoint(tmp_path / "run").step == 4


def test_a_seed_decides_everything(config, tmp_path):
    weights = []
    for number, seed in enumerate((3, 3, 4)):
        values = read_config(config, {"out": str(tmp_path / f"run{number}"), "trainer.seed": str(seed)})
        run(config, values)
        weights.append(load_checkpoint(tmp_path / f"run{number}").weights)
    assert equal(weights[0], weights[1]) and not equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["distill", "CONFIG"], "has the task 'structure_vae'; run it with `mdtdist train`"),
        (["train", "CONFIG", "--trainer.lr"], "'--trainer.lr' is not a pair"),
        (["train", "CONFIG", "lr", "3"], "'lr' is not a pair"),
        (["train", "CONFIG", "--trainer.learning_rate", "3"], "unknown key 'learning_rate' in trainer"),
        (["train", "CONFIG", "--trainer.lr", "high"], "trainer.lr is 'high'; expected float"),
        (["train", "CONFIG", "--trainr.lr", "3"], "unknown key 'trainr'; did you mean 'trainer'?"),
        (
            ["train", "CONFIG", "--trainer.precision", "fp8"],
            "precision is 'fp8'; expected one of 'fp32', 'bf16', 'fp16'",
        ),
        (["train", "CONFIG", "--trainer.accumulate", "3"], "batch_size is 2, but 1 process(es) with accumulate 3 take"),
        (["train", "CONFIG", "--structure_vae.data", "/nowhere"], "/nowhere has no metadata.csv"),
        (["train", "/nowhere.toml"], "cannot read the config /nowhere.toml"),
    ],
)
def test_wrong_input_is_one_sentence(arguments, words, config, capsys):
    assert main([str(config) if word == "CONFIG" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_flow_teacher_by_command(prepared, networks, tmp_path, capsys):
    values = {
        "task": "flow",
        "out": str(tmp_path / "run"),
        "trainer": {"num_samples": 4, "batch_size": 2, "lr": 1e-3, "precision": "bf16"},
        "flow": {
            "data": stage_values("latent", prepared.path, networks),
            "network": FLOWS["latent"][1],
            "eval_steps": 2,
        },
    }
    assert main(["train", "--json", str(write_toml(tmp_path / "config.toml", values))]) == 0
    assert json.loads(capsys.readouterr().out)["render_l1_1"] >= 0
    assert load(tmp_path / "run" / "flow").config["args"] == FLOWS["latent"][1]


def test_time_left_is_measured_from_where_the_run_goes_on():
    now = [0.0]
    bar = tqdm(total=1000, file=io.StringIO(), mininterval=0)
    bar._time = lambda: now[0]
    now[0] = 500.0  # reading the data
    start_bar(bar, 900)
    now[0] = 520.0
    bar.update(20)
    state = bar.format_dict
    assert (state["n"], state["initial"]) == (920, 900) and state["elapsed"] == 20
    assert state["rate"] == pytest.approx(1.0)
    assert "920/1000 [00:20<01:20" in str(bar)


def test_a_resumed_run_with_other_settings_is_refused_and_keeps_its_own(config, tmp_path, capsys):
    assert main(["train", str(config)]) == 0
    kept = (tmp_path / "run" / "settings.json").read_text()
    capsys.readouterr()
    assert main(["train", str(config), "--structure_vae.kl_weight", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "trained with structure_vae.kl_weight 0.001 so far, and now it is 0.5" in error and error.count("\n") == 1
    assert (tmp_path / "run" / "settings.json").read_text() == kept


def test_one_of_several_processes_does_not_speak(config, capsys, monkeypatch):
    monkeypatch.setattr("mdtdist.training.run", lambda *_: {"iou": 1.0})
    monkeypatch.setenv("RANK", "1")
    assert main(["train", str(config)]) == 0
    assert capsys.readouterr().out == ""
