"""Reading and drawing the log of a run."""

import json

import pytest
from PIL import Image

from mdtdist.cli.main import main
from mdtdist.errors import InputError
from mdtdist.training.curves import plot_run, plot_runs, read_log


def write_log(folder, *records):
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_series_are_sorted_and_the_later_record_of_a_step_counts(tmp_path):
    write_log(
        tmp_path,
        {"step": 1, "samples": 2, "loss": 5.0},
        {"step": 2, "samples": 4, "loss": 4.0},
        {"step": 2, "samples": 4, "val/iou": 0.5},
        {"step": 1, "samples": 2, "loss": 3.0},
    )
    assert read_log(tmp_path) == {"loss": [(2, 3.0), (4, 4.0)], "val/iou": [(4, 0.5)]}


def test_skipped_steps_and_cut_lines_are_left_out(tmp_path):
    write_log(tmp_path, {"step": 1, "samples": 2, "loss": float("nan")}, {"step": 2, "samples": 4, "loss": 1.0})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "sam')
    assert read_log(tmp_path) == {"loss": [(4, 1.0)]}


def test_curves_are_drawn(tmp_path):
    records = [{"step": n, "samples": n, "loss": 1 / n, "lr": 1e-3, "cpu_seconds": n} for n in range(1, 60)]
    write_log(tmp_path, *records, {"step": 59, "samples": 59, "val/psnr": 20.0})
    path = plot_run(tmp_path)
    assert path == tmp_path / "curves.png" and Image.open(path).size[0] > 400
    assert [file.name for file in tmp_path.iterdir() if "new" in file.name] == []


def test_a_folder_without_a_log_is_named(tmp_path):
    with pytest.raises(InputError, match="log.jsonl is missing"):
        read_log(tmp_path)


def write_runs(folder, *names):
    for number, name in enumerate(names):
        run = folder / name
        run.mkdir(parents=True)
        write_log(run, *({"step": n, "samples": n, "loss": number + 1 / n, f"own_{number}": 1.0} for n in range(1, 9)))
    return [folder / name for name in names]


def test_several_runs_share_one_panel_for_each_series(tmp_path):
    """An SVG draws its words as shapes, and has the words beside them."""
    runs = write_runs(tmp_path, "a/student", "b/student", "c")
    text = plot_runs(runs, tmp_path / "all.svg").read_text()
    assert all(f'id="axes_{n}"' in text for n in (1, 2, 3, 4)) and 'id="axes_5"' not in text
    for label in ("a/student", "b/student", "/c -->", "<!-- loss -->", "<!-- own_2 -->"):
        assert label in text
    alone = plot_runs(runs[2:], tmp_path / "alone.svg").read_text()
    assert "c -->" not in alone and "<!-- own_1 -->" not in alone


def test_the_command_draws_one_run_in_its_folder_and_several_beside(tmp_path, capsys, monkeypatch):
    runs = [str(run) for run in write_runs(tmp_path, "a", "b")]
    monkeypatch.chdir(tmp_path)
    assert main(["plot", runs[0]]) == 0 and Image.open(tmp_path / "a" / "curves.png").size[0] > 200
    assert main(["plot", *runs]) == 0 and (tmp_path / "curves.png").is_file()
    assert main(["plot", *runs, "--out", "both.pdf", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"out": "both.pdf"}
    assert (tmp_path / "both.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "a"], "a run is given twice"),
        (["a", "nowhere"], "nowhere/log.jsonl is missing"),
        (["empty"], "nothing is logged yet"),
        (["a", "--out", "curves.txt"], "ends with .png, .svg, .pdf"),
    ],
)
def test_wrong_runs_are_one_sentence(arguments, words, tmp_path, capsys, monkeypatch):
    write_runs(tmp_path, "a")
    (tmp_path / "empty").mkdir()
    write_log(tmp_path / "empty")
    monkeypatch.chdir(tmp_path)
    assert main(["plot", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
