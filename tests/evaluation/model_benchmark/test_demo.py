"""The demo on a tiny model: files, page, and what a reader can rely on."""

import json
import re
from dataclasses import replace
from urllib.parse import unquote

import pytest
from PIL import Image

from mdtdist.cli.main import main
from mdtdist.evaluation.model_benchmark import demo
from tests.pipelines.tiny import write_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_pipeline(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, color in (("red chair", (200, 40, 40)), ("blue", (30, 40, 220))):
        image = Image.new("RGBA", (64, 64))
        image.paste((*color, 255), (8, 20, 50, 60))
        image.save(folder / f"{name}.png")
    return str(folder)


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """The tiny model's Gaussians are large: few and small pictures."""
    monkeypatch.setattr(demo, "_NUM_FRAMES", 2)
    monkeypatch.setattr(demo, "_PREVIEW_SIZE", 16)
    monkeypatch.setattr(demo, "VARIANTS", tuple(replace(variant, turntable_size=16) for variant in demo.VARIANTS))


def test_demo_writes_assets_and_a_page_whose_links_exist(images, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["demo", "--images", images, "--out", str(out), "--model", model]) == 0
    shown = capsys.readouterr()
    assert (out / "index.html").resolve().as_uri() in shown.out
    assert "2/2" in shown.err and "left" in shown.err
    suffix = demo.video_suffix()
    for stem in ("red chair", "blue"):
        files = [f"{stem}{end}" for end in (".glb", ".ply", ".png", suffix, "_teacher25.png", "_student2.png")]
        assert all((out / name).stat().st_size > 0 for name in files)
    page = (out / "index.html").read_text()
    links = [unquote(link) for link in re.findall(r'(?:src|href|poster)="([^"]+)"', page)]
    assert links and all((out / link).is_file() for link in links)
    assert not re.search(r"https?://|<script|@import|url\(", page)  # works from the disk, offline
    assert "$" not in page
    assert page.index("Teacher, 25 steps") < page.index("Student 1x2") < page.index("Student 2x2")
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_both_surfaces_are_shown_where_there_is_a_mesh_decoder(images, tmp_path):
    model, out = write_pipeline(tmp_path / "model", all_decoders=True), tmp_path / "out"
    assert main(["demo", "--images", f"{images}/blue.png", "--out", str(out), "--model", str(model)]) == 0
    page = (out / "index.html").read_text()
    assert page.index("blue_voxels.png") < page.index("blue_mesh.png")
    voxels, mesh = (Image.open(out / f"blue{key}.png") for key in demo.SURFACES)
    assert voxels.size == mesh.size == (16, 16) and voxels.tobytes() != mesh.tobytes()


def test_json_output_holds_evaluations_and_speed(images, model, tmp_path, capsys):
    arguments = ["--images", f"{images}/blue.png", "--out", str(tmp_path / "out"), "--model", model, "--json"]
    assert main(["demo", *arguments]) == 0
    record = json.loads(capsys.readouterr().out)
    teacher, student, student_two = record["summary"]
    assert student["nfe"] == {"structure": 1, "latent": 1} and student_two["nfe"] == {"structure": 2, "latent": 2}
    assert teacher["nfe"]["structure"] > 25 and teacher["times_faster"] == {"flows": 1.0, "total": 1.0}
    assert student["times_faster"]["flows"] > 2
    assert list(record["images"]) == ["blue"] and record["images"]["blue"]["notes"] == []


def test_an_empty_structure_is_told_on_the_page(images, model, tmp_path, monkeypatch, capsys):
    from mdtdist.pipelines import EmptyStructureError, ImageTo3D

    generate = ImageTo3D.__call__

    def fail_for_the_student(self, crop, *, steps, flows, **options):
        if flows == "student" and steps == (2, 2):
            raise EmptyStructureError("no voxel <here>")
        return generate(self, crop, steps=steps, flows=flows, **options)

    monkeypatch.setattr(ImageTo3D, "__call__", fail_for_the_student)
    out = tmp_path / "out"
    assert main(["demo", "--images", f"{images}/blue.png", "--out", str(out), "--model", model]) == 0
    page = (out / "index.html").read_text()
    assert "no voxel &lt;here&gt;" in page and "nothing made" in page
    assert not (out / "blue_student2.png").exists() and (out / "blue.glb").exists()


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--seed", "-1"], "seed is -1"), (["--model", "x"], "'x' is unknown")]
)
def test_wrong_arguments_are_one_sentence(images, tmp_path, capsys, arguments, words):
    assert main(["demo", "--images", images, "--out", str(tmp_path / "out"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
