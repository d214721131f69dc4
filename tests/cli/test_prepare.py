import json

from mdtdist.cli.main import main
from tests.data.shapes import write_obj


def test_prepare_prints_a_summary(tmp_path, capsys):
    write_obj(tmp_path / "models", mtl="Kd 1 0 0", name="box")
    (tmp_path / "models" / "broken.ply").write_bytes(b"ply\n")
    command = ["prepare", str(tmp_path / "models"), "--out", str(tmp_path / "out"), "--stages", "voxels", "--workers=1"]
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
