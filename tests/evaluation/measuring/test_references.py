"""The true objects: folders of models, and prepared folders with the models they were made from."""

import json

import pytest
from PIL import Image

from mdtdist.data import files
from mdtdist.data.sources import hash_file
from mdtdist.errors import InputError
from mdtdist.evaluation.measuring.references import open_reference
from tests.evaluation.small_assets import NAMES, write_box, write_boxes
from tests.evaluation.tiny import write_renders


def prepare(root, models, *, local=False):
    """A prepared folder of the models: half of them test objects."""
    rows = []
    for index, path in enumerate(sorted(models.rglob("*.glb"))):
        sha256 = hash_file(path)
        split = "test" if index % 2 == 0 else "train"
        rows.append({"sha256": sha256, "name": path.stem, "split": split, "status": "ok", "source_id": path.stem})
        if local:
            rows[-1]["local_path"] = path.relative_to(root).as_posix()
        write_renders(files.render_folder(root, sha256), 3, seed=index)
    files.write_csv(root / "metadata.csv", rows, columns=(*files.COLUMNS, "local_path"))
    return {row["name"]: row["sha256"] for row in rows}


def test_models_go_by_their_stem_or_by_their_folder(tmp_path):
    write_boxes(tmp_path, names=("box", "plank"))
    write_box(tmp_path / "post/mesh.obj", "post")
    reference = open_reference(tmp_path)
    assert reference.ids == ["box", "plank", "post"] and reference.prepared is None
    assert reference.objects["box"].read().triangles.vertices.max() == pytest.approx(0.5)
    write_box(tmp_path / "box.obj", "box")
    with pytest.raises(InputError, match="both called box"):
        open_reference(tmp_path)


def test_a_folder_without_models_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        open_reference(tmp_path / "none")
    with pytest.raises(InputError, match="holds no"):
        open_reference(tmp_path)


def test_a_prepared_folder_finds_the_models_it_was_made_from(tmp_path):
    models = write_boxes(tmp_path / "models")
    ids = prepare(tmp_path / "data", models)
    with pytest.raises(InputError, match="--models"):
        open_reference(tmp_path / "data")
    reference = open_reference(tmp_path / "data", models=models)
    assert reference.ids == sorted([ids["box"], ids["post"]])  # the test split
    assert reference.objects[ids["box"]].path == models / "box.glb"
    assert open_reference(tmp_path / "data", models=models, split="train", limit=1).ids == [
        min(ids["plank"], ids["slab"])
    ]
    (models / "post.glb").unlink()
    with pytest.raises(InputError, match="1 models of .*post"):
        open_reference(tmp_path / "data", models=models)


def test_local_paths_of_a_prepared_folder_stay_inside_it(tmp_path):
    models = write_boxes(tmp_path / "data/raw")
    ids = prepare(tmp_path / "data", models, local=True)
    assert open_reference(tmp_path / "data").objects[ids["box"]].path == (models / "box.glb").resolve()
    table = tmp_path / "data/metadata.csv"
    write_box(tmp_path / "box.glb", "box")
    table.write_text(table.read_text().replace("raw/box.glb", "../box.glb"))
    with pytest.raises(InputError, match="--models"):
        open_reference(tmp_path / "data")


def test_the_condition_picture_is_the_view_from_the_front_or_the_first_of_trellis(tmp_path):
    models = write_boxes(tmp_path / "data/raw")
    ids = prepare(tmp_path / "data", models, local=True)
    reference = open_reference(tmp_path / "data")
    picture = reference.objects[ids["box"]].image
    frames = json.loads((picture.parent / "transforms.json").read_text())["frames"]
    assert reference.has_images and frames[int(picture.stem)]["cond"]
    first = tmp_path / "data/renders_cond" / ids["box"] / "000.png"
    first.parent.mkdir(parents=True)
    Image.new("RGBA", (8, 8)).save(first)
    again = open_reference(tmp_path / "data").objects
    assert again[ids["box"]].image == first and again[ids["post"]].image.parent.parent.name == "renders"
    assert len(NAMES) == 4 and again[ids["box"]].picture().size == (8, 8)
