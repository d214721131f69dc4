"""Data in TRELLIS's own layout: which objects are used, what a batch holds, what a wrong folder says."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mdtdist import models
from mdtdist.cli.main import main
from mdtdist.errors import InputError
from mdtdist.flow import EulerSampler
from mdtdist.training.config import from_dict
from mdtdist.training.flow import FlowConfig, FlowTask
from mdtdist.training.latent_batches import LatentBatches
from mdtdist.training.task import Draw, step_generator
from mdtdist.training.teachers import flow_files, open_model
from mdtdist.training.trellis_data import TrellisBatches, TrellisData, find_objects
from mdtdist.training.view_conditions import crop_render
from tests.pipelines.official import MEAN, STD, write_official
from tests.pipelines.tiny import RESOLUTION
from tests.training.official_data import NUM_VIEWS, SLAT_MODEL, SS_MODEL, read_rows, sha, write_data, write_table
from tests.training.tiny import write_toml

STAGES = ("structure", "latent")


def batches(model: Path, data: Path, stage: str = "structure", **options) -> TrellisBatches:
    config = TrellisData(stage=stage, roots=(data,), readers=2, **options)
    return TrellisBatches(config, model=model, seed=0, device="cpu")


def draw(position: int = 0, batch_size: int = 4, **options) -> Draw:
    return Draw(
        step=position, position=position, batch_size=batch_size, generator=step_generator(0, position), **options
    )


def names(data: Path, stage: str = "structure", **options) -> set[str]:
    found = find_objects(TrellisData(stage=stage, roots=(data,), **options))
    return {item.sha256 for items in found.values() for item in items}


# ------------------------------------------------------------------------------------------------------- the objects


def test_objects_are_chosen_as_trellis_does(tmp_path):
    changes = {
        "aesthetic_score": {0: 4.49, 1: 4.5, 2: ""},
        f"ss_latent_{SS_MODEL}": {3: False},
        "cond_rendered": {4: False},
        "num_voxels": {5: 999},
    }
    data = write_data(tmp_path, num_objects=7, **changes)
    assert names(data) == {sha(1), sha(5), sha(6)}
    assert names(data, "latent", max_voxels=998) == {sha(1), sha(3), sha(6)}
    assert names(data, "latent", max_voxels=999) == {sha(1), sha(3), sha(5), sha(6)}
    assert names(data, min_aesthetic_score=4.4) == {sha(0), sha(1), sha(5), sha(6)}


def test_what_the_table_does_not_say_the_files_say(tmp_path):
    data = write_data(tmp_path)
    write_table(data, [{"sha256": row["sha256"]} for row in read_rows(data)])
    (data / "ss_latents" / SS_MODEL / f"{sha(0)}.npz").unlink()
    shutil.rmtree(data / "renders_cond" / sha(1))
    assert names(data) == {sha(2), sha(3), sha(4)}
    with np.load(data / "latents" / SLAT_MODEL / f"{sha(2)}.npz") as arrays:
        num_voxels = len(arrays["coords"])
    assert names(data, "latent", max_voxels=num_voxels) == {sha(0), sha(2)}


def test_several_roots_are_one_data_set(tmp_path):
    first, second = write_data(tmp_path / "a", num_objects=2), write_data(tmp_path / "b", num_objects=4)
    write_table(second, read_rows(second)[2:])
    found = find_objects(TrellisData(stage="structure", roots=(first, second)))
    places = {item.sha256: item.views.parents[1].name for items in found.values() for item in items}
    assert places == {sha(0): "a", sha(1): "a", sha(2): "b", sha(3): "b"}


def test_validation_is_held_out_by_the_table_or_by_hash(tmp_path):
    data = write_data(tmp_path / "table", split={1: "val", 2: "test", 3: "val"})
    found = find_objects(TrellisData(stage="structure", roots=(data,), num_validation=1))
    assert [item.sha256 for item in found["train"]] == [sha(0), sha(4)] and len(found["val"]) == 1
    found = find_objects(TrellisData(stage="structure", roots=(write_data(tmp_path / "none"),)))
    assert (len(found["train"]), len(found["val"])) == (4, 1)
    assert found["val"][0].sha256 not in {item.sha256 for item in found["train"]}
    found = find_objects(TrellisData(stage="structure", roots=(write_data(tmp_path / "one", num_objects=1),)))
    assert found["train"] == found["val"] and len(found["val"]) == 1


# --------------------------------------------------------------------------------------------------------- a batch


def test_structure_batches_hold_the_files(official_model, official_data):
    made = batches(official_model, official_data)
    assert isinstance(made, LatentBatches)
    batch = made.train(draw())
    truth = {item.sha256: np.load(item.latent)["mean"] for item in made.objects["train"]}
    order = [name for x in batch.x_0 for name, mean in truth.items() if np.array_equal(mean, x.numpy())]
    assert sorted(order) == sorted(truth) and batch.coords is None and batch.time_scale == 1000
    assert batch.layout.num_samples == 4 and batch.cond.shape[0] == 4 and batch.cond.dtype == torch.float32
    again = made.train(draw())
    assert torch.equal(again.x_0, batch.x_0) and torch.equal(again.cond, batch.cond) and again.key == batch.key
    assert not torch.equal(made.train(draw(1)).cond, batch.cond)


def test_conditions_are_one_random_view_of_the_same_object(official_model, official_data):
    made = batches(official_model, official_data)
    model = open_model(official_model, device="cpu")
    tokens = {}
    for item in made.objects["train"]:
        for view in range(NUM_VIEWS):
            crop = crop_render(Image.open(item.views / f"{view:03d}.png"), size=28)
            tokens[item.sha256, view] = model.encode(crop[None])[0]
    means = {item.sha256: torch.from_numpy(np.load(item.latent)["mean"]) for item in made.objects["train"]}
    seen = set()
    for position in range(12):
        batch = made.train(draw(position, 2))
        for x_0, cond in zip(batch.x_0, batch.cond, strict=True):
            (name,) = (name for name, mean in means.items() if torch.equal(mean, x_0))
            distances = {key: (cond - value).abs().max().item() for key, value in tokens.items()}
            nearest = min(distances, key=distances.get)
            assert nearest[0] == name and distances[nearest] < 1e-5
            seen.add(nearest[1])
    assert seen == set(range(NUM_VIEWS))


def test_latents_are_normalised_by_the_model(official_model, official_data):
    made = batches(official_model, official_data, "latent")
    batch = made.train(draw())
    feats, coords = [], []
    for i, index in enumerate(made.epochs.batch(0, 4)):
        with np.load(made.objects["train"][index].latent) as arrays:
            feats.append((arrays["feats"] - np.array(MEAN)) / np.array(STD))
            voxels = arrays["coords"].astype(int)
            coords.append(np.concatenate([np.full((len(voxels), 1), i), voxels], axis=1))
    np.testing.assert_allclose(batch.x_0.numpy(), np.concatenate(feats), atol=1e-6)
    assert np.array_equal(batch.coords.numpy(), np.concatenate(coords)) and batch.coords.dtype == torch.int32
    assert batch.layout.num_samples == 4
    assert torch.equal(batch.layout.expand(torch.arange(4.0), batch.x_0)[:, 0].int(), batch.coords[:, 0])


def test_shards_share_a_batch_out(official_model, official_data):
    made = batches(official_model, official_data)
    whole = made.train(draw(3))
    parts = [made.train(draw(3, shard=shard, num_shards=2)) for shard in range(2)]
    assert torch.equal(torch.cat([part.x_0 for part in parts]), whole.x_0)
    assert parts[0].ids + parts[1].ids == whole.ids


def test_shards_of_structured_latents_have_about_as_many_voxels(official_model, official_data):
    made = batches(official_model, official_data, "latent")
    sizes = sorted(item.num_voxels for item in made.objects["train"])
    for position in range(4):
        parts = [made.train(draw(position, shard=shard, num_shards=2)) for shard in range(2)]
        assert set(parts[0].ids + parts[1].ids) == set(made.train(draw(position)).ids)
        assert sorted(len(part.x_0) for part in parts) == sorted([sizes[0] + sizes[3], sizes[1] + sizes[2]])


@pytest.mark.parametrize("stage", STAGES)
def test_validation_repeats_and_samples_are_judged(stage, official_model, official_data, tmp_path):
    made = batches(official_model, official_data, stage)
    (first, generator), (second, _) = (next(iter(made.validation())) for _ in range(2))
    assert torch.equal(first.x_0, second.x_0) and torch.equal(first.cond, second.cond)
    assert len(list(made.validation())) == 4
    network = made.model.network({"structure": "sparse_structure_flow_model", "latent": "slat_flow_model"}[stage])
    figures = made.judge(network, EulerSampler(steps=1), tmp_path, 7)
    assert set(figures) == ({"iou", "f1", "voxels"} if stage == "structure" else {"render_l1_1"})
    assert (tmp_path / "samples_0000007.png").is_file()


def test_a_sample_that_is_the_data_is_judged_perfect(official_model, official_data, tmp_path, monkeypatch):
    made = batches(official_model, official_data)
    network = made.model.network("sparse_structure_flow_model")
    monkeypatch.setattr(type(next(iter(made.validation()))[0]), "sample", lambda self, *_: self.x_0)
    figures = made.judge(network, EulerSampler(steps=1), tmp_path, 0)
    assert figures["iou"] == figures["f1"] == 1
    logits = made.model.decode_structure(next(iter(made.validation()))[0].x_0)
    assert figures["voxels"] == (logits > 0).sum() / len(logits) != (logits < 0).sum() / len(logits)


@pytest.mark.parametrize("stage", STAGES)
def test_a_flow_teacher_can_be_trained_on_the_same_data(stage, official_model, official_data):
    args = flow_files(official_model, stage).read_config()["args"]
    data = {"source": "trellis", "stage": stage, "roots": [str(official_data)], "model": str(official_model)}
    task = FlowTask(from_dict(FlowConfig, {"data": data, "network": args}), seed=0, device="cpu")
    assert task.loss(draw())["loss"].isfinite() and task.last_draw["ids"] == task.batches.train(draw()).ids
    del data["model"]
    with pytest.raises(InputError, match="which image encoder goes with .*; add model"):
        FlowTask(from_dict(FlowConfig, {"data": data, "network": args}), seed=0, device="cpu")


# ------------------------------------------------------------------------------------------------------- wrong input


def config(tmp_path: Path, model: Path, data: Path, *, stage: str = "structure", **changes) -> Path:
    values = {
        "task": "distil",
        "out": str(tmp_path / "run"),
        "trainer": {"num_samples": 2, "batch_size": 2, "lr": 1e-3},
        "distil": {
            "teacher": str(model),
            "data": {"source": "trellis", "stage": stage, "roots": [str(data)]} | changes,
        },
    }
    return write_toml(tmp_path / "config.toml", values)


def error_of(path: Path, capsys, *words: str) -> str:
    assert main(["distill", str(path), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("stage", STAGES)
def test_a_teacher_of_other_latents_is_refused(stage, official_model, tmp_path, capsys):
    data = write_data(tmp_path / "data", channels=4)
    error = error_of(config(tmp_path, official_model, data, stage=stage), capsys)
    assert str(official_model) in error and str(data) in error
    both = ("(4, 4, 4, 4)", "(8, 4, 4, 4)") if stage == "structure" else ("4 channels", "8 channels")
    assert all(shape in error for shape in both)


def test_a_teacher_on_a_smaller_grid_is_refused(official_model, tmp_path, capsys):
    data = write_data(tmp_path / "data")
    for path in (data / "latents" / SLAT_MODEL).iterdir():
        with np.load(path) as arrays:
            np.savez(path, feats=arrays["feats"], coords=arrays["coords"] + RESOLUTION)
    error = error_of(config(tmp_path, official_model, data, stage="latent"), capsys)
    assert str(data) in error and "slat_flow" in error and f"a grid of {RESOLUTION} a side" in error


def test_a_teacher_of_other_conditions_is_refused(official_model, official_data, tmp_path, capsys):
    other = write_official(tmp_path / "other", with_encoder=True)
    path = other / "ckpts/ss_flow_img_dit_L_16l8_fp16"
    args = json.loads(path.with_suffix(".json").read_text())["args"] | {"cond_channels": 6}
    models.save(models.build("SparseStructureFlowModel", **args), path)
    error = error_of(config(tmp_path, other, official_data), capsys)
    assert "conditions with 12 channels" in error and "takes 6" in error and str(official_data) in error


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: shutil.rmtree(data / "ss_latents"), "no latents for the structure stage of the teacher"),
        (lambda data: (data / "metadata.csv").unlink(), "metadata.csv cannot be read (No such file or directory)"),
        (lambda data: (data / "metadata.csv").write_text("name\n1\n"), "has no column sha256"),
        (lambda data: (data / "ss_latents" / "other").mkdir(), f"has latents of other, {SS_MODEL} in ss_latents"),
        (
            lambda data: [path.unlink() for path in (data / "ss_latents" / SS_MODEL).iterdir()],
            "but {data}/ss_latents/" + SS_MODEL,
        ),
        (
            lambda data: [path.write_bytes(b"no") for path in (data / "ss_latents" / SS_MODEL).iterdir()],
            "expected the arrays mean",
        ),
        (lambda data: shutil.rmtree(data / "renders_cond"), "renders_cond"),
        (
            lambda data: [path.unlink() for path in data.glob("renders_cond/*/*.png")],
            "the view {data}/renders_cond",
        ),
        (
            lambda data: write_table(data, [row | {"cond_rendered": ""} for row in read_rows(data)]),
            "no object for the structure stage: 5 without views in renders_cond",
        ),
        (
            lambda data: write_table(data, [row | {"aesthetic_score": 4.0} for row in read_rows(data)]),
            "5 with an aesthetic score below 4.5",
        ),
        (
            lambda data: write_table(data, [row | {"split": "test"} for row in read_rows(data)]),
            "in the split train",
        ),
    ],
)  # fmt: skip
def test_a_spoilt_data_set_is_one_sentence(spoil, words, official_model, official_data, tmp_path, capsys):
    data = shutil.copytree(official_data, tmp_path / "data")
    spoil(data)
    assert words.format(data=data) in error_of(config(tmp_path, official_model, data), capsys)


def test_latents_of_two_encoders_do_not_mix(official_model, tmp_path):
    first, second = write_data(tmp_path / "a", num_objects=4), write_data(tmp_path / "b", channels=4, num_objects=6)
    write_table(second, read_rows(second)[4:])
    data = TrellisData(stage="structure", roots=(first, second))
    made = TrellisBatches(data, model=official_model, seed=0, device="cpu")
    with pytest.raises(InputError, match="expected those of one encoder"):
        made.train(draw(0, 5))


def test_a_teacher_of_text_is_refused(official_model, official_data, tmp_path, capsys):
    model = shutil.copytree(official_model, tmp_path / "text")
    content = json.loads((model / "pipeline.json").read_text())
    content["name"] = "TrellisTextTo3DPipeline"
    del content["args"]["image_cond_model"]
    content["args"]["text_cond_model"] = "openai/clip-vit-large-patch14"
    (model / "pipeline.json").write_text(json.dumps(content))
    assert "takes text, the data are images" in error_of(config(tmp_path, model, official_data), capsys)


def test_no_teacher_there(official_data, tmp_path, capsys):
    error = error_of(config(tmp_path, tmp_path / "nowhere", official_data), capsys)
    assert "neither a checkpoint" in error and "nowhere.json is missing" in error and "nor a model" in error


def test_unknown_sources_and_fields_are_named(official_model, official_data, tmp_path, capsys):
    path = config(tmp_path, official_model, official_data)
    error = error_of(path, capsys, "--distil.data.source", "trelis")
    assert "source is 'trelis'; expected one of 'prepared', 'trellis', 'images'" in error
    error = error_of(path, capsys, "--distil.data.max_voxel", "3")
    assert "did you mean 'max_voxels'" in error


def test_limits_are_checked():
    with pytest.raises(ValueError, match="roots is empty"):
        TrellisData(stage="latent", roots=())
    with pytest.raises(ValueError, match="expected at least 1"):
        replace(TrellisData(stage="latent", roots=(Path("x"),)), max_voxels=0)


def test_a_flow_comes_from_a_checkpoint_or_a_model(official_model, networks):
    assert flow_files(networks / "latent" / "flow", "latent").weights == networks / "latent" / "flow.safetensors"
    assert flow_files(official_model, "latent").weights.name == "slat_flow_img_dit_L_64l8p2_fp16.safetensors"
    assert flow_files(Path("mini"), "structure").weights.name == "ss_flow.safetensors"
