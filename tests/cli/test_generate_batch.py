"""``mdtdist generate`` as a batch: failures are recorded, finished images left out on request, parts told apart."""

import json
from pathlib import Path

import pytest

from mdtdist.cli import generate_batch
from mdtdist.cli.main import main
from tests.cli.test_generate import files, save_object
from tests.pipelines.tiny import write_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_pipeline(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def run(model, tmp_path, capsys):
    """Four pictures, the one called ``broken`` unreadable; returns (exit code, summary) of a batch."""
    for number in range(3):
        (tmp_path / "in").mkdir(exist_ok=True)
        save_object(tmp_path / "in" / f"chair{number}.png", (200, 40 * number, 40))
    (tmp_path / "in" / "broken.png").write_text("not an image")

    def batch(*options, out="out"):
        arguments = ["generate", str(tmp_path / "in"), "--out", str(tmp_path / out), "--model", model]
        code = main([*arguments, "--formats", "ply", "--json", *options])
        text = capsys.readouterr().out
        return code, json.loads(text) if text else {}

    return batch


def test_a_bad_image_is_recorded_and_the_others_are_made(run, tmp_path):
    code, summary = run("--workers", "1")
    assert code == 0 and [Path(record["image"]).stem for record in summary["made"]] == ["chair0", "chair1", "chair2"]
    names = [f"chair{number}.{suffix}" for number in range(3) for suffix in ("json", "ply")]
    assert files(tmp_path / "out") == [*names, "failures.json"]
    (reason,) = json.loads((tmp_path / "out" / "failures.json").read_text()).values()
    assert "not an image" in reason and summary["failed"] == {str(tmp_path / "in" / "broken.png"): reason}


def test_results_are_those_of_a_plain_run(run, model, tmp_path):
    run("--workers", "1", "--seed", "3")
    (tmp_path / "in" / "broken.png").unlink()
    assert run("--seed", "3", out="plain")[0] == 0
    for number in range(3):
        name = f"chair{number}.ply"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_resume_leaves_out_what_is_there_with_the_same_settings(run, tmp_path):
    run("--workers", "1")
    save_object(tmp_path / "in" / "chair1.png", (9, 9, 9))  # another picture under the same name
    (tmp_path / "out" / "chair2.ply").unlink()
    _, summary = run("--resume")
    assert [Path(record["image"]).stem for record in summary["made"]] == ["chair1", "chair2"]
    assert summary["num_skipped"] == 1
    assert run("--resume")[1]["num_skipped"] == 3
    assert run("--resume", "--seed", "1")[1]["num_skipped"] == 0
    assert len(run("--workers", "1", "--seed", "1")[1]["made"]) == 3  # without it everything is made again
    (tmp_path / "in" / "broken.png").unlink()
    assert run("--resume", "--seed", "1")[1] == {"made": [], "num_skipped": 3, "failed": {}}
    assert not (tmp_path / "out" / "failures.json").exists()


def test_shards_share_out_the_images(run, tmp_path):
    found = [run("--shard", f"{index}/2")[1] for index in (1, 2)]
    made = [{Path(record["image"]).stem for record in summary["made"]} for summary in found]
    assert made[0] | made[1] == {"chair0", "chair1", "chair2"} and not made[0] & made[1] and all(made)
    assert sum(len(summary["failed"]) for summary in found) == 1
    assert len(list((tmp_path / "out").glob("failures_shard_*_of_2.json"))) == 1


def test_a_batch_of_failures_is_a_failure(run, tmp_path):
    for path in (tmp_path / "in").glob("chair*"):
        path.unlink()
    assert run("--workers", "1")[0] == 1


@pytest.mark.parametrize(
    "options, words",
    [
        (["--workers", "0"], "workers is 0"),
        (["--shard", "3/2"], "shard is 3/2"),
        (["--address", "auto"], "goes with the engine ray"),
        (["--resume", "--views", "stochastic"], "--views makes one asset"),
        (["--workers", "2", "--steps", "0"], "steps is '0'"),
    ],
)
def test_wrong_options_are_named_and_leave_nothing(model, tmp_path, capsys, options, words):
    image = save_object(tmp_path / "chair.png")
    assert main(["generate", image, "--out", str(tmp_path / "out"), "--model", model, *options]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_every_option_that_decides_the_files_is_in_the_digest():
    import argparse

    parser = argparse.ArgumentParser()
    from mdtdist.cli import generate

    generate.add_parser(parser.add_subparsers())

    def digest(*options):
        args = parser.parse_args(["generate", "a.png", "--out", "o", *options])
        return generate_batch.settings_digest(args, formats=["ply"])

    others = ["--seed 1", "--steps 2", "--teacher", "--model x", "--student s", "--guidance 2", "--max-voxels 9"]
    others += ["--dtype float16", "--background rembg"]
    assert len({digest(), *(digest(*text.split()) for text in others)}) == len(others) + 1
    assert digest() == digest("--workers", "3", "--device", "cuda", "--resume")


@pytest.mark.slow
def test_worker_processes_make_the_same_files(run, tmp_path):
    run("--workers", "1", out="one")
    code, summary = run("--workers", "2", "--time-limit", "300")
    assert code == 0 and len(summary["made"]) == 3 and len(summary["failed"]) == 1
    for number in range(3):
        name = f"chair{number}.ply"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
