"""Distillation from images alone: conditions, voxels from a structure flow, and both students end to end."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mdtdist.cli.main import main
from mdtdist.errors import InputError
from mdtdist.flow import EulerSampler
from mdtdist.models import load, save
from mdtdist.pipelines import ImageTo3D
from mdtdist.training.config import from_dict
from mdtdist.training.distil import DistilConfig, DistilTask
from mdtdist.training.image_data import ImageBatches, ImageData, find_subjects
from mdtdist.training.structure_source import StructureSource
from mdtdist.training.task import Draw, step_generator
from mdtdist.training.teachers import open_model
from mdtdist.training.view_conditions import ViewEncoder, split_by_hash
from tests.pipelines.tiny import random_network, write_pipeline
from tests.training.official_data import read_rows, write_data, write_table
from tests.training.tiny import stage_values, write_toml
from tests.training.toy import clone, equal

STAGES = ("structure", "latent")


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """Three pictures of rectangles."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(3):
        pixels = np.zeros((32, 32, 4), dtype=np.uint8)
        pixels[6:20, 4 + number : 20 + 2 * number] = (90 * number, 200 - 60 * number, 40, 255)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(params=["official", "ours"])
def model(request, official_model, tmp_path) -> Path:
    """A teacher in either layout."""
    return official_model if request.param == "official" else write_pipeline(tmp_path / "model")


def batches(model: Path, images: Path, stage: str, *, seed: int = 0, **options) -> ImageBatches:
    return ImageBatches(ImageData(stage=stage, images=images, **options), model=model, seed=seed, device="cpu")


def draw(position: int = 0, batch_size: int = 3) -> Draw:
    generator = step_generator(0, position)
    return Draw(step=position, position=position, batch_size=batch_size, generator=generator)


# --------------------------------------------------------------------------------------------------------- batches


def test_structure_batches_need_no_latents(model, images):
    made = batches(model, images, "structure")
    batch = made.train(draw())
    assert batch.x_0.shape == (3, 8, 4, 4, 4) and not batch.x_0.any() and batch.coords is None
    pipe = ImageTo3D.from_pretrained(model)
    tokens = pipe.encode(torch.stack([pipe.prepare(path) for path in sorted(images.iterdir())]))
    order = made.epochs.batch(0, 3)
    torch.testing.assert_close(batch.cond, tokens[order], rtol=0, atol=1e-6)
    assert made.train(draw()).key == batch.key != made.train(draw(1, 2)).key


def test_voxels_are_those_of_the_structure_flow(model, images):
    made = batches(model, images, "latent", structure_steps=2)
    batch = made.train(draw())
    assert batch.x_0.shape == (len(batch.coords), 8) and not batch.x_0.any()
    source, pipe = made.structures, made.model
    cond = made.encoder.encode([pipe.prepare(path) for path in sorted(images.iterdir())])
    voxels = source.voxels(cond, [0] * 3, ["a", "b", "c"])
    order = made.epochs.batch(0, 3)
    expected = torch.cat([torch.nn.functional.pad(voxels[j], (1, 0), value=i) for i, j in enumerate(order)])
    assert torch.equal(batch.coords, expected.int())


def test_voxels_are_decoded_samples(official_model, images):
    """The same steps by hand: noise of the variant, two steps of the guided teacher, logits above zero."""
    source, cond = structure_source(official_model, images, steps=2)
    drawn = []
    noises = source.model.structure_noise
    source.model.structure_noise = lambda generators: drawn.append(noises(generators)) or drawn[-1]
    voxels = source.voxels(cond, [0, 0, 7], ["a", "b", "c"])
    sampled = source.model.sample_structure(cond.tokens, drawn[0], flows="teacher", steps=2)
    grids = source.model.decode_structure(sampled.x) > 0
    assert all(torch.equal(torch.argwhere(grid).int(), found) for grid, found in zip(grids, voxels, strict=True))


def structure_source(model: Path, images: Path, **options):
    pipe = open_model(model, device="cpu")
    encoder = ViewEncoder(pipe, readers=1)
    cond = encoder.encode([pipe.prepare(path) for path in sorted(images.iterdir())])
    given = {"flows": "teacher", "steps": 2, "guidance": None, "max_voxels": 9999, "cache": None} | options
    return StructureSource(pipe, **given), cond


def test_a_structure_is_made_once_and_does_not_hang_on_its_batch(official_model, images, monkeypatch):
    source, cond = structure_source(official_model, images)
    asked = []
    sample = source.model.sample_structure
    monkeypatch.setattr(source.model, "sample_structure", lambda c, *a, **k: asked.append(len(c)) or sample(c, *a, **k))
    together = source.voxels(cond, [0, 1, 0], "abc")
    again = source.voxels(cond, [0, 1, 0], "abc")
    assert asked == [3] and all(torch.equal(a, b) for a, b in zip(together, again, strict=True))
    other, _ = structure_source(official_model, images)
    alone = [other.voxels(part(cond, i), [variant], "x")[0] for i, variant in enumerate((0, 1, 0))]
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))
    assert not torch.equal(source.voxels(cond, [1, 1, 1], "abc")[0], together[0])


def part(cond, index):
    return type(cond)(tokens=cond.tokens[[index]], keys=(cond.keys[index],))


def test_kept_structures_are_found_by_later_runs_unless_something_changed(
    official_model, images, tmp_path, monkeypatch
):
    before = structure_source(official_model, images, cache=tmp_path)
    first = before[0].voxels(before[1], [0] * 3, "abc")
    files = sorted((tmp_path / "structures").iterdir())
    assert len(files) == 3

    def asks(source, cond) -> bool:
        asked = []
        sample = source.model.sample_structure
        monkeypatch.setattr(source.model, "sample_structure", lambda *a, **k: asked.append(1) or sample(*a, **k))
        source.voxels(cond, [0] * 3, "abc")
        return bool(asked)

    source, cond = structure_source(official_model, images, cache=tmp_path)
    assert not asks(source, cond)
    assert all(torch.equal(a, b) for a, b in zip(first, source.voxels(cond, [0] * 3, "abc"), strict=True))
    assert asks(*structure_source(official_model, images, cache=tmp_path, steps=3))
    assert asks(*structure_source(official_model, images, cache=tmp_path, guidance=0.5))
    files[0].write_bytes(b"damaged")
    assert asks(*structure_source(official_model, images, cache=tmp_path))
    other = write_pipeline(tmp_path / "other", first_seed=50)
    assert asks(*structure_source(other, images, cache=tmp_path))


def test_unusable_structures_are_drawn_again_then_refused(official_model, images):
    source, cond = structure_source(official_model, images)
    decode, calls = source.model.decode_structure, []

    def empty_at_first(latent):
        calls.append(len(latent))
        logits = decode(latent)
        if len(calls) == 1:
            logits[1] = -1
        return logits

    source.model.decode_structure = empty_at_first
    assert all(len(voxels) for voxels in source.voxels(cond, [0] * 3, "abc")) and calls == [3, 1]
    source, cond = structure_source(official_model, images, max_voxels=1)
    with pytest.raises(InputError, match="voxels of the image a.png, .*max_voxels = 1"):
        source.voxels(cond, [0] * 3, ["a.png", "b.png", "c.png"])


def test_structures_come_from_a_student(images, tmp_path):
    model = write_pipeline(tmp_path / "model", students=False)
    student = random_network("sparse_structure_flow_model", 77)
    save(student, tmp_path / "student")
    made = batches(model, images, "latent", structure=tmp_path / "student")
    assert equal(clone(made.model.network("sparse_structure_flow_model_student")), clone(student))
    assert not torch.equal(made.train(draw()).coords, batches(model, images, "latent").train(draw()).coords)
    sampler = made.model.config.samplers["student", "structure"]
    assert (sampler.steps, sampler.cfg_strength) == (1, 0)


def test_more_structures_of_an_image_are_more_data(official_model, images):
    made = batches(official_model, images, "latent", num_structures=3, structure_steps=1)
    for position in range(6):
        made.train(draw(position))
    assert 3 < len(made.structures._memory) <= 9


def test_validation_has_structures_of_its_own(official_model, images):
    made = batches(official_model, images, "latent", structure_steps=1)
    train = made.train(draw())
    (first, _), (second, _) = (next(iter(made.validation())) for _ in range(2))
    assert torch.equal(first.coords, second.coords) and not torch.equal(first.coords[:5], train.coords[:5])
    assert first.layout.num_samples == 3


@pytest.mark.parametrize("stage", STAGES)
def test_samples_are_pictured(stage, official_model, images, tmp_path):
    made = batches(official_model, images, stage)
    network = made.model.network({"structure": "sparse_structure_flow_model", "latent": "slat_flow_model"}[stage])
    figures = made.judge(network, EulerSampler(steps=1), tmp_path, 3)
    assert set(figures) == ({"voxels"} if stage == "structure" else set())
    assert (tmp_path / "samples_0000003.png").is_file()


# ---------------------------------------------------------------------------------------------------------- sources


def test_views_of_data_sets_are_images_too(prepared, official_data, tmp_path):
    found = find_subjects(official_data)
    assert len(found["train"]) == 4 and len(found["val"]) == 1 and len(found["train"][0].views()) == 3
    found = find_subjects(prepared.path)
    splits = {split: [s.name for s in subjects] for split, subjects in found.items()}
    assert splits == {split: prepared.ids(split) for split in ("train", "val")}
    assert [path.name for path in found["train"][0].views()] == ["000.png"]  # the only condition view
    assert not any(path.suffix == ".npz" for subjects in found.values() for s in subjects for path in s.views())


def test_a_data_set_without_latents_will_do(official_model, tmp_path):
    data = write_data(tmp_path)
    for path in [*data.glob("ss_latents/*/*"), *data.glob("latents/*/*")]:
        path.unlink()
    batch = batches(official_model, data, "structure").train(draw(0, 4))
    assert batch.cond.shape[0] == 4


def test_pictures_are_held_out_by_hash_where_there_are_many(tmp_path):
    for number in range(200):
        (tmp_path / f"{number:03d}.png").touch()
    found = find_subjects(tmp_path)
    train, held = split_by_hash([path.name for path in sorted(tmp_path.iterdir())])
    assert [s.name for s in found["train"]] == train and [s.name for s in found["val"]] == held and held


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path / "nowhere", "is no folder"),
        (lambda path: path, "has no images"),
        (lambda path: write_data(path / "a") / "ss_latents", "has no images"),
        (lambda path: without_views(write_data(path / "b")), "no views in renders_cond or renders"),
        (lambda path: in_test_split(write_data(path / "c")), "no training objects with views"),
    ],
)
def test_folders_without_pictures_are_named(change, words, tmp_path):
    with pytest.raises(InputError, match=words):
        find_subjects(change(tmp_path))


def without_views(data: Path) -> Path:
    (data / "renders_cond").rename(data / "elsewhere")
    return data


def in_test_split(data: Path) -> Path:
    write_table(data, [row | {"split": "test"} for row in read_rows(data)])
    return data


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trajectories": None}, "images, which have no latents.*as_data = true"),
        ({"trajectories": {"num_batches": 2}}, "images, which have no latents.*as_data = true"),
        ({"objective_interval": [0.5]}, "objective_interval is .* expected the two times"),
    ],
)
def test_samples_have_to_stand_in_for_data(changes, words, images):
    values = {
        "data": {"source": "images", "stage": "structure", "images": str(images)},
        "teacher": "mini",
        "trajectories": {"num_batches": 2, "as_data": True},
    }
    with pytest.raises(InputError, match=words):
        from_dict(DistilConfig, {k: v for k, v in (values | changes).items() if v is not None})


@pytest.mark.parametrize(
    ("options", "words"),
    [({"max_voxels": 0}, "at least 1"), ({"structure": Path("x")}, "it is for the latent stage")],
)
def test_options_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        ImageData(stage="structure", images=Path("i"), **options)


# ------------------------------------------------------------------------------------------------------- end to end


def settings(tmp_path: Path, stage: str, **changes) -> Path:
    values = {
        "task": "distil",
        "out": str(tmp_path / f"{stage}_run"),
        "trainer": {"num_samples": 9, "batch_size": 3, "lr": 1e-3, "log_every": 1},
        "distil": {
            "teacher": "x",
            "teacher_steps": 2,
            "num_reference_batches": 1,
            "options": {"guidance_vm": "none", "guidance_vd": "none"},
            "trajectories": {"num_batches": 2, "steps": 2, "as_data": True, "cache": str(tmp_path / "cache")},
            "data": {"source": "images", "stage": stage, "images": "x"} | changes,
        },
    }
    return write_toml(tmp_path / f"{stage}.toml", values)


def test_both_students_from_three_images(model, images, tmp_path, capsys):
    """The data are three pictures; the latent student learns on voxels of the structure student."""
    words = ["--json", "--teacher", str(model), "--data", str(images)]
    assert main(["distill", str(settings(tmp_path, "structure")), *words]) == 0
    structure = tmp_path / "structure_run" / "student"
    again = settings(tmp_path, "latent", structure=str(structure), cache=str(tmp_path / "cache"))
    assert main(["distill", str(again), *words]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line["paired_1"] > 0 for line in lines) and len(lines) == 2
    for stage, name in zip(STAGES, ("SparseStructureFlowModel", "SLatFlowModel"), strict=True):
        assert load(tmp_path / f"{stage}_run" / "student").config["name"].endswith(name)
        records = [json.loads(line) for line in (tmp_path / f"{stage}_run" / "log.jsonl").read_text().splitlines()]
        assert [r["trajectories"] for r in records if "trajectories" in r] == [0.5, 1, 1]
    assert len(list((tmp_path / "cache" / "trajectories").iterdir())) == 4
    # Three for the training, three for the validation.
    assert len(list((tmp_path / "cache" / "structures").iterdir())) == 6


def test_samples_of_the_teacher_stand_in_for_the_data(official_model, images):
    values = {
        "data": {"source": "images", "stage": "structure", "images": str(images)},
        "teacher": str(official_model),
        "trajectories": {"num_batches": 1, "steps": 3, "as_data": True},
        "guidance": 2.0,
        "guidance_interval": [0.5, 1.0],
        "objective_interval": [0.0, 1.0],
    }
    task = DistilTask(from_dict(DistilConfig, values), seed=0, device="cpu")
    batch, latents = task._draw(draw())
    noise = latents.trajectory.states[0]
    pipe = task.batches.model
    sampled = pipe.config.samplers["teacher", "structure"].sampler(steps=3, cfg_strength=2.0)
    expected = sampled.sample(
        batch.field(task.teacher),
        noise,
        num_samples=3,
        negative=batch.field(task.teacher, torch.zeros_like(batch.cond)),
    )
    torch.testing.assert_close(latents.x_0, expected.x, rtol=1e-4, atol=1e-5)
    # Inside the objective the same weight acts at all times.
    x, t = noise, torch.full((3,), 0.3)
    early = task._fields(batch).teacher(x, t) - batch.field(task.teacher)(x, t)
    assert early.abs().max() > 1e-3
    torch.testing.assert_close(task._teacher_field(batch)(x, t), batch.field(task.teacher)(x, t), rtol=0, atol=0)


def test_a_finished_cache_needs_no_teacher(official_model, images, tmp_path):
    values = {
        "data": {"source": "images", "stage": "structure", "images": str(images)},
        "teacher": str(official_model),
        "objective": "trajectory",
        "trajectories": {"num_batches": 2, "steps": 2, "as_data": True, "cache": str(tmp_path)},
    }
    first = DistilTask(from_dict(DistilConfig, values), seed=0, device="cpu")
    losses = [first.loss(draw(i))["loss"].item() for i in range(2)]
    second = DistilTask(from_dict(DistilConfig, values), seed=0, device="cpu")
    second.teacher.forward = None
    assert [second.loss(draw(i))["loss"].item() for i in range(2)] == losses
    third = DistilTask(from_dict(DistilConfig, values | {"guidance": 2.0}), seed=0, device="cpu")
    third.loss(draw())
    assert third.store.num_sampled == 1
    other = shutil.copytree(official_model, tmp_path / "other")
    path = other / "ckpts/ss_flow_img_dit_L_16l8_fp16.safetensors"
    save_file(load_file(path) | {"out_layer.bias": torch.ones(8)}, path)
    fourth = DistilTask(from_dict(DistilConfig, values | {"teacher": str(other)}), seed=0, device="cpu")
    fourth.loss(draw())
    assert fourth.store.num_sampled == 1


@pytest.mark.parametrize("stage", STAGES)
def test_a_cache_serves_prepared_data_too(stage, prepared, networks, tmp_path):
    values = {
        "data": stage_values(stage, prepared.path, networks),
        "teacher": str(networks / stage / "flow"),
        "objective": "trajectory",
        "trajectories": {"num_batches": 2, "steps": 2, "cache": str(tmp_path)},
    }
    stores = []
    for _ in range(2):
        task = DistilTask(from_dict(DistilConfig, values), seed=0, device="cpu")
        stores.append(([task.loss(draw(i, 2))["loss"].item() for i in range(2)], task.store))
    assert stores[0][0] == stores[1][0]
    assert [(store.num_sampled, store.num_read) for _, store in stores] == [(2, 0), (0, 2)]
