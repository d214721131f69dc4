"""Reading and drawing the log of a run."""

import json

import pytest
from PIL import Image

from mdtdist.errors import InputError
from mdtdist.training.curves import plot_run, read_log


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
