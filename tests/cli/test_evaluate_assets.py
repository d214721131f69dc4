"""``mdtdist evaluate --assets`` from the command line."""

import json

import pytest

from mdtdist.cli.evaluate_assets import parse_pair, parse_weights
from mdtdist.cli.main import main
from mdtdist.errors import InputError
from mdtdist.evaluation.measuring.records import read_record
from tests.evaluation.small_assets import PROTOCOL, write_boxes, write_images, write_protocol

GEOMETRY = PROTOCOL.replace(PROTOCOL[PROTOCOL.index('"fd_') : PROTOCOL.index('"chamfer"')], "").replace(
    ', "psnr",\n           "ssim", "psnr_normal", "ssim_normal", "coverage", "diversity"', ""
)


@pytest.fixture
def arguments(tmp_path):
    write_protocol(tmp_path, GEOMETRY.replace('[[networks]]\nname = "efficientnet"', "networks = []"))
    write_boxes(tmp_path / "true")
    write_boxes(tmp_path / "my_system")
    return [
        "evaluate",
        *("--assets", str(tmp_path / "my_system"), "--reference", str(tmp_path / "true")),
        *("--protocol", str(tmp_path / "small.toml"), "--out", str(tmp_path / "out")),
    ]


def test_a_folder_of_files_becomes_a_record_and_a_table(arguments, tmp_path, capsys):
    story = {"model": "mini", "nfe": {"structure": 1, "latent": 2}, "seconds": {"latent": 0.5}}
    (tmp_path / "my_system/box.json").write_text(json.dumps(story))
    assert main([*arguments, "--kind", "student", "--steps", "1+2", "--no-guided"]) == 0
    record = read_record(tmp_path / "out/my_system.json")
    system = record.system
    assert (system.name, system.kind, system.steps, system.nfe) == ("my_system", "student", (1, 2), (1, 2))
    assert system.guided is False and record.seconds == {"latent": 0.5} and record.command.startswith("mdtdist")
    assert record.metrics["f_score"].value == 1 and record.num_objects == 4
    printed = capsys.readouterr().out
    assert "f_score +" in printed and "out/my_system.json" in printed and "4 files: +y is up" in printed


def test_json_holds_the_record(arguments, capsys):
    assert main([*arguments, "--json", "--limit", "3"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["num_objects"] == 3 and record["metrics"]["iou"]["value"] == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--weights", "dinov2"], "expected NAME=FILE"),
        (["--weights", "dinov2=none.pth"], "are not at none.pth"),
        (["--steps", "25"], ""),
        (["--steps", "0+1"], "expected two whole numbers"),
        (["--scale", "big"], "expected 'auto' or a factor"),
        (["--up", "north"], "north"),
        (["--protocol", "shiped-test"], "did you mean 'shipped-test'"),
        (["--images", "nowhere"], "no picture of box"),
        (["--format", "obj"], "has no .obj file"),
    ],
)
def test_wrong_input_is_one_sentence(arguments, capsys, more, message):
    assert main([*arguments, *more]) == (2 if message else 0)
    assert message in capsys.readouterr().err


def test_the_reference_and_the_output_folder_are_needed(capsys):
    assert main(["evaluate", "--assets", "x"]) == 2
    assert "--reference DIR" in capsys.readouterr().err


def test_a_missing_object_stops_before_anything_is_measured(arguments, tmp_path, capsys):
    (tmp_path / "my_system/slab.glb").unlink()
    assert main(arguments) == 2
    assert "slab" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*arguments, "--allow-missing"]) == 0
    assert "slab: no output" in read_record(tmp_path / "out/my_system.json").notes[0]


def test_calibration_alone_needs_no_assets(tmp_path, capsys):
    write_protocol(tmp_path)
    reference = ["--reference", str(write_boxes(tmp_path / "true")), "--images", str(write_images(tmp_path / "images"))]
    command = ["evaluate", "--calibration", "--protocol", str(tmp_path / "small.toml"), "--out", str(tmp_path / "out")]
    assert main([*command, *reference]) == 0
    printed = capsys.readouterr().out
    assert "true objects, halves" in printed and "fd_efficientnet -" in printed and "efficientnet-lite0" in printed
    assert read_record(tmp_path / "out/true_objects_other_cameras.json").system.kind == "calibration"


def test_pairs_and_weights_are_read():
    assert parse_pair("25+25", "steps") == parse_pair("25", "steps") == (25, 25)
    assert parse_pair(None, "nfe") is None
    assert parse_weights(["a=b=c"])["a"].name == "b=c"
    with pytest.raises(InputError, match="A\\+B"):
        parse_pair("1+2+3", "nfe")
