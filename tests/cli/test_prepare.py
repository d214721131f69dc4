import json

from mdtdist.cli.main import main
from tests.data.shapes import write_obj


def test_prepare_prints_a_summary(tmp_path, capsys):
    write_obj(tmp_path / "models", mtl="Kd 1 0 0", name="box")
    (tmp_path / "models" / "broken.ply").write_bytes(b"ply\n")
    command = ["prepare", str(tmp_path / "models"), "--out", str(tmp_path / "out"), "--stages", "voxels"]
    command += ["--workers=1", "--time-limit=0", "--memory-limit=0"]  # in this process
    assert main([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["status"] == {"ok": 1, "failed": 1} and summary["failed"][0]["source_id"] == "broken.ply"
    assert main(command) == 0
    assert "2 assets: 1 failed, 1 ok" in capsys.readouterr().out


def test_wrong_input_gives_one_sentence_and_code_2(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["prepare", "--out", out]) == 2
    assert main(["prepare", str(tmp_path / "absent"), "--out", out]) == 2
    assert main(["prepare", str(tmp_path), "--out", out, "--stages", "voxel"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 3


def test_shards_of_a_folder_are_merged(tmp_path, capsys):
    for number in range(4):
        write_obj(tmp_path / "models", mtl="Kd 1 0 0", name=f"box_{number}", extent=(1, 2, 2 + number))
    out = ["--out", str(tmp_path / "out"), "--json"]
    options = ["--stages", "voxels", "--workers=1", "--time-limit=0", "--memory-limit=0"]
    for index in (1, 2):
        assert main(["prepare", str(tmp_path / "models"), *out, *options, f"--shard={index}/2"]) == 0
    capsys.readouterr()
    assert main(["prepare", *out, "--merge"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == {"ok": 4}
    assert (tmp_path / "out" / "metadata.csv").read_text().count("train,ok") == 4
    assert (tmp_path / "out" / "prepare_report.html").exists()


def test_options_that_do_not_go_together_are_named(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    cases = {
        "--merge goes with --out alone": ["x", "--merge"],
        "--cond-size goes with --layout trellis": ["x", "--cond-size", "64"],
        "--score goes with --layout trellis": ["x", "--score", "5"],
        "unknown stage 'renders_cond'": ["x", "--stages", "renders_cond"],
        "goes with the engine ray": ["x", "--address", "auto"],
        "shard is '1'": ["x", "--shard", "1"],
        "time limit is -1": ["x", "--time-limit", "-1"],
        "unknown data set 'objavers'": ["--source", "objavers"],
        "neither was given": [],
    }
    for words, options in cases.items():
        assert main(["prepare", *options, *out]) == 2
        assert words in capsys.readouterr().err


def test_layout_trellis_needs_its_own_stages(tmp_path, capsys):
    command = ["prepare", "x", "--out", str(tmp_path / "out"), "--layout", "trellis", "--stages", "latents"]
    assert main(command) == 2
    assert "unknown stage 'latents'; choose among renders_cond, renders, voxels, features" in capsys.readouterr().err
