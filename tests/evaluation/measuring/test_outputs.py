"""Exported files matched with their objects."""

import json

import pytest

from mdtdist.errors import InputError
from mdtdist.evaluation.measuring.outputs import (
    OutputFile,
    check_complete,
    common_seeds,
    find_outputs,
    generation_facts,
)

IDS = ["chair", "lamp", "table"]


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        [
            "chair_seed0.glb",
            "chair_seed1.glb",
            "lamp_seed0.glb",
            "lamp_seed1.glb",
            "table_seed0.glb",
            "table_seed1.glb",
        ],
        [
            "seed0/chair.ply",
            "seed1/chair.ply",
            "seed0/lamp.ply",
            "seed1/lamp.ply",
            "seed0/table.ply",
            "seed1/table.ply",
        ],
        [
            "chair/seed0/a.obj",
            "chair/seed1/a.obj",
            "lamp/seed0.obj",
            "lamp/seed1.obj",
            "table/b_seed0.obj",
            "table/b_seed1.obj",
        ],
        ["chair.glb", "chair_seed1.glb", "lamp/mesh.glb", "lamp/mesh-seed1.glb", "table.GLB", "seed1/table.glb"],
    ],
)
def test_all_ways_to_name_seeds(tmp_path, names):
    outputs = find_outputs(write(tmp_path, *names, "notes.txt", "stranger.glb"), set(IDS))
    assert [(output.id, output.seed) for output in outputs] == [(name, seed) for name in IDS for seed in (0, 1)]
    assert common_seeds(outputs) == (0, 1)
    assert check_complete(outputs, IDS) == (IDS, [])


def test_two_formats_of_an_object_need_a_choice(tmp_path):
    write(tmp_path, "chair.glb", "chair.ply", "lamp.glb", "lamp.ply")
    with pytest.raises(InputError, match="--format"):
        find_outputs(tmp_path, set(IDS))
    assert {output.path.suffix for output in find_outputs(tmp_path, set(IDS), suffix="ply")} == {".ply"}


def test_a_folder_of_something_else_says_what_it_has(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        find_outputs(tmp_path / "none", set(IDS))
    with pytest.raises(InputError, match=r"it has sofa.glb; the ids are chair, lamp"):
        find_outputs(write(tmp_path, "sofa.glb"), set(IDS))


def test_a_missing_object_is_an_error_unless_allowed(tmp_path):
    outputs = find_outputs(write(tmp_path, "chair.glb", "lamp.glb"), set(IDS))
    with pytest.raises(InputError, match="1 of 3 objects have no output.*table"):
        check_complete(outputs, IDS)
    assert check_complete(outputs, IDS, allow_missing=True) == (["chair", "lamp"], ["table"])


def test_an_object_that_lacks_a_seed_is_missing(tmp_path):
    outputs = find_outputs(write(tmp_path, "chair.glb", "chair_seed1.glb", "lamp.glb", "table.glb"), set(IDS))
    with pytest.raises(InputError, match=r"each seed of \[0, 1\]"):
        check_complete(outputs, IDS)
    with pytest.raises(InputError, match="1 objects have an output"):
        check_complete(outputs, IDS, allow_missing=True)


def test_empty_outputs_are_outputs(tmp_path):
    outputs = find_outputs(write(tmp_path, "chair.empty", "lamp.ply", "table.ply"), set(IDS), suffix="ply")
    assert [output.is_empty for output in outputs] == [True, False, False]


def test_the_digest_follows_what_an_obj_has_beside_it(tmp_path):
    write(tmp_path, "chair.obj", "chair.mtl", "lamp.obj", "table/mesh.obj", "table/skin.png")
    outputs = {output.id: output for output in find_outputs(tmp_path, set(IDS))}
    before = {name: output.digest() for name, output in outputs.items()}
    write(tmp_path, "chair.png")
    (tmp_path / "table/skin.png").write_text("other")
    after = {name: output.digest() for name, output in outputs.items()}
    assert [name for name in IDS if before[name] != after[name]] == ["chair", "table"]


def test_what_generate_wrote_beside_its_files_is_used(tmp_path):
    write(tmp_path, "chair.ply", "lamp.ply", "table.ply")
    for number, name in enumerate(IDS):
        story = {"model": "mini", "steps": {"structure": 1, "latent": 2}, "nfe": {"structure": 1, "latent": 2 + number}}
        (tmp_path / f"{name}.json").write_text(json.dumps(story | {"seconds": {"latent": float(number)}}))
    outputs = find_outputs(tmp_path, set(IDS))
    assert generation_facts(outputs) == {"steps": (1, 2), "seconds": {"latent": 1.0}}  # nfe differs: left out
    (tmp_path / "chair.json").write_text("[1")
    assert generation_facts(outputs)["seconds"] == {"latent": 1.5}
    assert generation_facts([OutputFile(id="x", seed=0, path=tmp_path / "x.ply")]) == {}
