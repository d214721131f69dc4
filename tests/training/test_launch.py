"""The command under a launcher."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from mdtdist.cli.main import main
from tests.training.tiny import stage_values, write_toml
from tests.training.toy import equal

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]


@pytest.fixture
def config(prepared, networks, tmp_path):
    values = {
        "task": "distil",
        "out": str(tmp_path / "run"),
        "trainer": {"num_samples": 16, "batch_size": 4, "lr": 1e-3, "log_every": 1, "save_every": 100},
        "distil": {
            "data": stage_values("latent", prepared.path, networks),
            "teacher": str(networks / "latent" / "flow"),
            "teacher_steps": 2,
            "num_reference_batches": 1,
        },
    }
    return write_toml(tmp_path / "config.toml", values)


def launch(*arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*LAUNCH, "mdtdist.cli.main", "distill", *arguments, "--json"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_launched_processes_make_the_student_of_one(config, tmp_path, capsys):
    assert main(["distill", str(config), "--out", str(tmp_path / "one"), "--trainer.accumulate", "2", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    out, error = launch(str(config)).communicate(timeout=300)
    result = json.loads(out)  # one line, although there are two processes
    assert result["paired_1"] == expected["paired_1"], error
    assert equal(load_file(tmp_path / "run/student.safetensors"), load_file(tmp_path / "one/student.safetensors"))


@pytest.mark.slow
def test_sigterm_to_the_launcher_saves_a_checkpoint(config, tmp_path):
    process = launch(str(config), "--trainer.num_samples", "400000")
    log, deadline = tmp_path / "run" / "log.jsonl", time.monotonic() + 200
    while not (log.is_file() and len(log.read_text().splitlines()) > 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    assert not (tmp_path / "run" / "checkpoints").exists()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=100)
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert saved.name.startswith("step_") and "the same command goes on" in error
