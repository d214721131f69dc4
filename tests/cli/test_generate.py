"""``mdtdist generate``: contract, and one sentence and exit code 2 for every wrong input."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdtdist.cli import generate
from mdtdist.cli.main import main
from mdtdist.errors import InputError
from tests.pipelines.tiny import write_pipeline


def save_object(path: Path, color: tuple[int, int, int] = (200, 40, 40)) -> str:
    image = Image.new("RGBA", (64, 64))
    image.paste((*color, 255), (8, 20, 50, 60))
    image.save(path)
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_pipeline(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(autouse=True)
def quick_preview(monkeypatch):
    """Rendering has its own tests."""
    monkeypatch.setattr("mdtdist.export.write_preview", lambda gaussians, path: path.write_bytes(b"png"))


@pytest.fixture
def chair(tmp_path):
    (tmp_path / "in").mkdir()
    return save_object(tmp_path / "in" / "chair.png")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_writes_every_format_and_a_json(chair, model, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    code = main(["generate", chair, "--out", str(out), "--model", model, "--formats", "ply,png", "--seed", "4"])
    assert code == 0
    assert files(out) == ["chair.json", "chair.ply", "chair.png"]
    record = json.loads((out / "chair.json").read_text())
    assert record["model"] == model and record["seed"] == 4 and record["flows"] == "student"
    assert record["nfe"] == {"structure": 1, "latent": 1} and record["steps"] == {"structure": 1, "latent": 1}
    assert {"conditioning", "structure", "structure_decode", "latent", "gaussians"} <= set(record["seconds"])
    assert "torch" in record["versions"]
    assert "evaluations 1 + 1" in capsys.readouterr().out


def test_folder_steps_pair_and_json_output(chair, model, tmp_path, capsys):
    save_object(tmp_path / "in" / "bench.png", (30, 40, 220))
    arguments = ["generate", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", model]
    assert main([*arguments, "--steps", "2,3", "--teacher", "--formats", "ply", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [Path(record["image"]).name for record in records] == ["bench.png", "chair.png"]
    assert all(record["steps"] == {"structure": 2, "latent": 3} for record in records)
    assert all(record["flows"] == "teacher" for record in records)
    assert files(tmp_path / "out") == ["bench.json", "bench.ply", "chair.json", "chair.ply"]


def test_views_are_one_object(chair, model, tmp_path, capsys):
    other = save_object(tmp_path / "in" / "side.png", (30, 40, 220))
    arguments = ["generate", chair, other, "--out", str(tmp_path / "out"), "--model", model, "--formats", "ply"]
    assert main([*arguments, "--views", "multidiffusion", "--steps", "2", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["images"] == [chair, other] and record["views"] == "multidiffusion"
    assert record["nfe"] == {"structure": 4, "latent": 4}
    assert files(tmp_path / "out") == ["chair.json", "chair.ply"]


def test_structure_of_a_mesh_guidance_and_low_memory(chair, model, tmp_path, capsys):
    mesh = tmp_path / "slab.obj"
    mesh.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n")
    arguments = ["generate", chair, "--out", str(tmp_path / "out"), "--model", model, "--formats", "ply", "--json"]
    assert main([*arguments, "--structure", str(mesh), "--teacher", "--guidance", "1,off", "--low-memory"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["nfe"] == {"structure": 0, "latent": 5} and "structure" not in record["seconds"]


def test_decoders_decide_the_files(chair, tmp_path, capsys):
    model = str(write_pipeline(tmp_path / "all", all_decoders=True))
    arguments = ["generate", chair, "--out", str(tmp_path / "out"), "--model", model, "--json"]
    assert main([*arguments, "--decoders", "mesh,rf", "--faces", "200", "--texture-size", "0"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert files(tmp_path / "out") == ["chair.glb", "chair.json", "chair.safetensors"]
    assert record["decoders"] == ["mesh", "rf"] and record["mesh"]["colors"] == "vertices"
    assert record["mesh"]["faces"] < 300 < record["mesh"]["faces_before"]
    assert main([*arguments, "--formats", "ply"]) == 0  # a mesh is not decoded where no file needs it
    assert json.loads(capsys.readouterr().out)[0]["decoders"] == ["gs"]


def test_too_many_voxels_are_a_failure_in_one_sentence(chair, model, tmp_path, capsys):
    arguments = ["generate", chair, "--out", str(tmp_path / "out"), "--model", model, "--formats", "ply"]
    assert main([*arguments, "--max-voxels", "2"]) == 1
    assert "expected at most 2" in capsys.readouterr().err and files(tmp_path / "out") == []


def student_only(folder: Path, model: str) -> str:
    """A copy of the model without its teacher flows."""
    shutil.copytree(model, folder / "student")
    config = json.loads((folder / "student" / "pipeline.json").read_text())
    for role in ("sparse_structure_flow_model", "slat_flow_model"):
        del config["args"]["models"][role]
    (folder / "student" / "pipeline.json").write_text(json.dumps(config))
    return str(folder / "student")


def damaged(folder: Path, model: str) -> str:
    """A copy of the model with weights that end early."""
    shutil.copytree(model, folder / "damaged")
    weights = folder / "damaged" / "ckpts" / "slat_flow_model_student.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    return str(folder / "damaged")


def bad_arguments(folder: Path, chair: str, model: str) -> dict[str, tuple[list[str], str]]:
    """Case -> (arguments, words of the sentence)."""
    (folder / "text.png").write_text("not an image")
    data = Path(chair).read_bytes()
    (folder / "truncated.png").write_bytes(data[: len(data) // 2])
    Image.new("L", (4097, 4)).save(folder / "huge.png")
    with open(folder / "heavy.png", "wb") as file:
        file.truncate(32 * 2**20 + 1)
    Image.new("RGBA", (32, 32)).save(folder / "transparent.png")
    Image.new("RGB", (32, 32), "white").save(folder / "white.png")
    (folder / "nothing").mkdir()
    (folder / "twins").mkdir()
    save_object(folder / "twins" / "chair.webp")
    (folder / "file").write_text("")
    named = {name: str(folder / name) for name in ("text", "truncated", "huge", "heavy", "transparent", "white")}
    images = {name: ([f"{path}.png", "--model", model], name) for name, path in named.items()}
    return {
        "not an image": (images["text"][0], "not an image"),
        "truncated": (images["truncated"][0], "truncated"),
        "huge side": (images["huge"][0], "4097 x 4 pixels"),
        "huge file": (images["heavy"][0], "at most 32 MB"),
        "fully transparent": (images["transparent"][0], "fully transparent"),
        "no foreground": (images["white"][0], "no foreground"),
        "one of two bad": ([chair, str(folder / "text.png"), "--model", model], "not an image"),
        "missing image": ([str(folder / "gone.png"), "--model", model], "does not exist"),
        "folder without images": ([str(folder / "nothing"), "--model", model], "has no images"),
        "same name twice": ([chair, str(folder / "twins"), "--model", model], "would both write chair.json"),
        "unknown model": ([chair, "--model", "maxi"], "model 'maxi' is unknown"),
        "wrong local path": ([chair, "--model", "./no/model"], "'./no/model' does not exist"),
        "hub id": ([chair, "--model", "owner/name"], "hub id"),
        "not a model folder": ([chair, "--model", str(folder)], "no model folder"),
        "zero steps": ([chair, "--model", model, "--steps", "0"], "steps is '0'"),
        "negative steps": ([chair, "--model", model, "--steps", "-1"], "steps is '-1'"),
        "zero latent steps": ([chair, "--model", model, "--steps", "1,0"], "steps is '1,0'"),
        "three steps": ([chair, "--model", model, "--steps", "1,2,3"], "steps is '1,2,3'"),
        "steps in words": ([chair, "--model", model, "--steps", "one"], "steps is 'one'"),
        "unknown format": ([chair, "--model", model, "--formats", "ply,stl"], "format 'stl' is unknown"),
        "no format": ([chair, "--model", model, "--formats", ","], "is unknown"),
        "negative seed": ([chair, "--model", model, "--seed", "-1"], "seed is -1"),
        "seed in words": ([chair, "--model", model, "--seed", "x"], "seed is 'x'"),
        "guidance in words": ([chair, "--model", model, "--guidance", "x"], "guidance is 'x'"),
        "negative guidance": ([chair, "--model", model, "--guidance", "off,-1"], "guidance is 'off,-1'"),
        "neither image nor text": (["--model", model], "images or --prompt; got neither"),
        "image and text": ([chair, "--prompt", "a chair", "--model", model], "images or --prompt; got both"),
        "text for a model of images": (["--prompt", "a chair", "--model", model], "use ImageTo3D"),
        "views of a text": (["--prompt", "a chair", "--views", "stochastic"], "--views goes with images"),
        "unknown decoder": ([chair, "--model", model, "--decoders", "gs,nerf"], "decoder 'nerf' is unknown"),
        "absent decoder": ([chair, "--model", model, "--decoders", "gs,mesh"], "has no 'mesh' decoder"),
        "format without its decoder": ([chair, "--decoders", "mesh", "--formats", "ply"], "ply needs the decoder gs"),
        "missing structure": ([chair, "--model", model, "--structure", "gone.glb"], "'gone.glb' cannot be used"),
        "no voxels": ([chair, "--model", model, "--max-voxels", "0"], "max-voxels is 0"),
        "few faces": ([chair, "--model", model, "--faces", "3"], "faces is 3"),
        "huge texture": ([chair, "--model", model, "--texture-size", "9000"], "texture-size is 9000"),
        "no time": ([chair, "--model", model, "--time-budget", "0"], "time-budget is '0'"),
        "missing student": ([chair, "--model", model, "--student", "./gone"], "student './gone' does not exist"),
        "no teacher": ([chair, "--model", student_only(folder, model), "--teacher"], "has no 'teacher' flows"),
        "damaged weights": ([chair, "--model", damaged(folder, model)], "is cut short inside its header"),
        "unknown device": ([chair, "--model", model, "--device", "cuda:99"], "device 'cuda:99' is not available"),
        "unknown option": ([chair, "--model", model, "--colour"], "unrecognized arguments: --colour"),
    }


CASES = (
    "not an image", "truncated", "huge side", "huge file", "fully transparent", "no foreground", "one of two bad",
    "missing image", "folder without images", "same name twice", "unknown model", "wrong local path", "hub id",
    "not a model folder", "zero steps", "negative steps", "zero latent steps", "three steps", "steps in words",
    "unknown format", "no format", "negative seed", "seed in words", "guidance in words", "negative guidance",
    "neither image nor text", "image and text", "text for a model of images", "views of a text", "unknown decoder",
    "absent decoder", "format without its decoder", "missing structure", "no voxels", "few faces", "huge texture",
    "no time", "missing student", "no teacher",
    "damaged weights", "unknown device", "unknown option",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_one_sentence_with_exit_code_2_and_leaves_nothing(case, chair, model, tmp_path, capsys):
    arguments, words = bad_arguments(tmp_path, chair, model)[case]
    before = files(tmp_path)
    assert main(["generate", *arguments, "--out", str(tmp_path / "out")]) == 2
    output = capsys.readouterr()
    errors = [line for line in output.err.splitlines() if "warning:" not in line]
    assert len(errors) == 1 and errors[0].startswith("mdtdist: error: ") and words in errors[0]
    assert "Traceback" not in output.err and output.out == ""
    assert files(tmp_path) == before and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["in/chair.png", "in/chair.png/out", "/proc/nothing/out"])
def test_unwritable_output_is_found_before_the_model_is_loaded(name, chair, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mdtdist.pipelines.ImageTo3D.from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    out = tmp_path / name  # an absolute name stays as it is
    assert main(["generate", chair, "--out", str(out), "--model", model]) == 2
    assert "cannot write into" in capsys.readouterr().err


def test_opaque_photograph_is_accepted_with_a_warning(model, tmp_path, capsys):
    pixels = np.full((64, 64, 3), 230, np.uint8)
    pixels[16:48, 20:44] = (150, 30, 30)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    arguments = ["generate", str(tmp_path / "photo.jpg"), "--out", str(tmp_path / "out"), "--model", model]
    assert main([*arguments, "--formats", "ply"]) == 0
    assert "warning: the image" in capsys.readouterr().err
    assert files(tmp_path / "out") == ["photo.json", "photo.ply"]


def test_failure_while_writing_leaves_nothing(chair, model, tmp_path, capsys, monkeypatch):
    def save(self, path):
        path.write_text("half")
        if path.suffix == ".png":
            raise RuntimeError("disk is gone")

    monkeypatch.setattr("mdtdist.pipelines.Asset.save", save)
    arguments = ["generate", chair, "--out", str(tmp_path / "out"), "--model", model, "--formats", "ply,png"]
    assert main(arguments) == 1
    assert "disk is gone" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_formats_default_and_order(monkeypatch):
    monkeypatch.setattr("mdtdist.export.video.video_suffix", lambda: ".mp4")
    assert generate.parse_formats(None) == ["glb", "ply", "mp4", "png"]
    assert generate.parse_formats("PNG, .ply,png") == ["png", "ply"]
    monkeypatch.setattr("mdtdist.export.video.video_suffix", lambda: ".gif")
    assert generate.parse_formats(None) == ["glb", "ply", "gif", "png"]
    with pytest.raises(InputError, match="needs an encoder"):
        generate.parse_formats("mp4")


def test_steps_parsing():
    assert [generate.parse_steps(text) for text in (None, "4", "1,2")] == [None, 4, (1, 2)]
