"""Conditions from pictures: what is drawn, and the trainings that learn or use their encoder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from mdtdist.conditioning import PatchTokenEncoder, crop_to_object
from mdtdist.data import PreparedFolder, files
from mdtdist.errors import InputError
from mdtdist.models import load
from mdtdist.training.augment import Augmentation, augment
from mdtdist.training.blocks import blocks_of
from mdtdist.training.checkpoint import load_checkpoint
from mdtdist.training.conditions import open_conditions
from mdtdist.training.config import from_dict
from mdtdist.training.curves import read_log
from mdtdist.training.distil import DistilConfig, DistilTask
from mdtdist.training.flow import FlowConfig, FlowTask
from mdtdist.training.latent_batches import DenseBatches, SparseBatches, StageData
from mdtdist.training.picture_conditions import PictureBank
from mdtdist.training.trainer import Trainer, TrainerConfig
from tests.training.processes import run_group
from tests.training.tiny import FLOWS, stage_values, write_prepared
from tests.training.toy import clone, crash, draw, equal

CHANNELS, NUM_VIEWS = 96, 2
ENCODER = {"channels": CHANNELS, "stem_channels": [4, 4, 8, 8]}
PLAIN = torch.tensor([False])


def write_pictures(folder: Path) -> PreparedFolder:
    """The made-up objects, each with two condition views and another one: coloured boxes with a corner missing."""
    data, rng = write_prepared(folder), np.random.default_rng(0)
    for sha in data.ids():
        place, frames = files.render_folder(folder, sha), []
        for number in range(NUM_VIEWS + 1):
            rgba = np.zeros((48, 48, 4), dtype=np.uint8)
            rgba[8:40, 6:40, :3] = rng.integers(0, 256, size=(32, 34, 3)) // 2 + rng.integers(0, 128, size=3)
            rgba[8:40, 6:40, 3] = 255
            rgba[8:20, 6:16, 3] = 0
            Image.fromarray(rgba).save(place / f"{number:03d}.png")
            frames.append({"file_path": f"{number:03d}.png", "cond": number < NUM_VIEWS})
        files.write_json(place / "transforms.json", {"frames": frames})
        files.cond_path(folder, sha).unlink()
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> PreparedFolder:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def encoder() -> PatchTokenEncoder:
    return new_encoder()


def new_encoder(seed: int = 0) -> PatchTokenEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PatchTokenEncoder(**ENCODER)


@pytest.fixture(scope="module")
def bank(folder, encoder) -> PictureBank:
    return PictureBank(folder, folder.ids("train"), encoder)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ----------------------------------------------------------------------------------------------------------- the bank


def test_pictures_are_the_crops_of_the_condition_views(bank, folder):
    assert bank.pictures.shape == (5, NUM_VIEWS, 4, 224, 224) and (bank.num_views, bank.channels) == (2, CHANNELS)
    for item, sha in enumerate(folder.ids("train")):
        for view in range(NUM_VIEWS):
            image = Image.open(files.render_folder(folder.path, sha) / f"{view:03d}.png")
            assert torch.equal(bank.pictures[item, view] / 255, crop_to_object(image, size=224))


def test_drawn_tokens_are_those_of_one_view_mirrored_where_asked(bank, encoder):
    seen = set()
    for seed in range(4):
        drawn = bank.draw([3, 0], torch.tensor([True, False]), generator=seeded(seed))
        expected_views = torch.randint(NUM_VIEWS, (2,), generator=seeded(seed)).tolist()
        crops = bank.pictures.float() / 255
        expected = torch.stack([crops[3, expected_views[0]].flip(-1), crops[0, expected_views[1]]])
        torch.testing.assert_close(drawn, encoder(expected).detach(), atol=1e-5, rtol=0)
        seen.update(expected_views)
    assert seen == {0, 1}


def test_frozen_tokens_have_no_gradient_and_no_16_bits(folder, bank):
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        low = bank.draw([1], PLAIN, generator=seeded())
    assert torch.equal(low, bank.draw([1], PLAIN, generator=seeded())) and not low.requires_grad
    trained = PictureBank(folder, folder.ids("val"), new_encoder(), is_trained=True)
    trained.draw([1], PLAIN, generator=seeded())[..., :8].sum().backward()
    assert trained.encoder.mix.weight.grad.abs().max() > 0


def test_pictures_are_changed_in_full_precision_before_they_are_encoded(folder, bank, encoder, monkeypatch):
    options = Augmentation(color=1.0, frame=0.5, blur=1.0)
    changed = PictureBank(folder, folder.ids("train"), encoder, augmentation=options)
    generator = seeded()
    view = torch.randint(NUM_VIEWS, (1,), generator=generator)
    crops = augment(bank.pictures[[2], view].flip(-1) / 255, options, generator=generator)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        drawn = changed.draw([2], torch.tensor([True]), generator=seeded())
    torch.testing.assert_close(drawn, encoder(crops).detach(), atol=1e-5, rtol=0)


def test_key_names_everything_that_decides_the_tokens(folder, bank):
    generator = seeded()
    key = bank.key([1, 2], torch.tensor([True, False]), generator=generator)
    assert torch.equal(generator.get_state(), seeded().get_state())
    ids = folder.ids("train")
    banks = {
        "encoder": PictureBank(folder, ids, new_encoder(1)),
        "changes": PictureBank(folder, ids, bank.encoder, augmentation=Augmentation(light=0.5)),
    }
    others = [one.key([1, 2], torch.tensor([True, False]), generator=seeded()) for one in banks.values()]
    others += [
        bank.key([2, 1], torch.tensor([True, False]), generator=seeded()),
        bank.key([1, 2], torch.tensor([False, False]), generator=seeded()),
        bank.key([1, 2], torch.tensor([True, False]), generator=seeded(1)),
    ]
    assert len({key, *others}) == 6 and bank.key([1, 2], torch.tensor([True, False]), generator=seeded()) == key
    trained = PictureBank(folder, ids[:1], bank.encoder, is_trained=True)
    assert trained.key([0], PLAIN, generator=seeded()) == ""


def test_views_that_cannot_be_used_are_named(tmp_path, encoder):
    data = write_pictures(tmp_path)
    sha, other = data.ids("train")[:2]
    path = files.render_folder(tmp_path, sha) / "001.png"
    Image.new("RGBA", (48, 48)).save(path)
    with pytest.raises(InputError, match=f"{path} cannot be used: the image has no foreground"):
        PictureBank(data, [sha], encoder)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=f"{path} cannot be read"):
        PictureBank(data, [sha], encoder)
    files.write_json(path.with_name("transforms.json"), {"frames": [{"file_path": "000.png", "cond": True}]})
    with pytest.raises(InputError, match=f"{other} has 2 condition views and {sha} has 1"):
        PictureBank(data, [sha, other], encoder)


# -------------------------------------------------------------------------------------------------- which one is used


def test_the_file_decides_between_pictures_and_tokens(folder, prepared, networks, tmp_path):
    new_encoder().save(tmp_path / "encoder")
    ids = {"train": folder.ids("train"), "val": folder.ids("val")}
    options = Augmentation(color=0.5)
    banks = open_conditions(folder, ids, tmp_path / "encoder", augmentation=options)
    assert banks["train"].augmentation == options and banks["val"].augmentation is None
    assert banks["train"].encoder is banks["val"].encoder and not banks["train"].is_trained
    assert not any(p.requires_grad for p in banks["train"].encoder.parameters())
    tokens = open_conditions(prepared, ids, networks / "image_encoder")
    assert tokens["train"].tokens.shape[-1] == 12 and tokens["train"].key([0], PLAIN, generator=seeded()) == ""
    with pytest.raises(InputError, match="augment changes pictures, but .*image_encoder takes tokens that are stored"):
        open_conditions(prepared, ids, networks / "image_encoder", augmentation=options)
    with pytest.raises(InputError, match="nothing says which image encoder is used; add image_encoder"):
        open_conditions(prepared, ids, None)


# ---------------------------------------------------------------------------------------------------------- trainings


def flow_values(stage: str, folder: Path, networks: Path, **data) -> dict:
    _, args = FLOWS[stage]
    values = stage_values(stage, folder, networks) | data
    return {"data": values, "network": args | {"cond_channels": CHANNELS}, "eval_steps": 1}


def joint_config(folder: PreparedFolder, networks: Path, **changes) -> FlowConfig:
    """The structure flow with an encoder of its own."""
    values = flow_values("structure", folder.path, networks, augment={"color": 1.0, "frame": 1.0, "edge": 0.5})
    del values["data"]["image_encoder"]
    return from_dict(FlowConfig, values | {"image_encoder": ENCODER} | changes)


class StoppedTask(FlowTask):
    """Dies when it is asked for a batch."""

    stop = -1

    def loss(self, draw):
        return crash(None) if draw.position == self.stop else super().loss(draw)


def train(rank: int, folder: Path, networks: Path, out: Path, stop: int = -1, **changes) -> dict[str, float]:
    """Four steps of two samples."""
    values = {"num_samples": 8, "batch_size": 2, "lr": 0.01, "ema": 0.5, "save_every": 2, "log_every": 1}
    config = TrainerConfig(**values | {"tensorboard": False} | changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = StoppedTask(joint_config(PreparedFolder(folder), networks), seed=0, device="cpu")
    task.stop = stop
    return Trainer(task, config, out).run()


@pytest.fixture(scope="module")
def run(folder, networks, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(0, folder.path, networks, out, accumulate=2)
    return out


def assert_same_run(a: Path, b: Path) -> None:
    first, second = load_checkpoint(a), load_checkpoint(b)
    for name in ("weights", "average", "optimizer"):
        assert equal(dict(getattr(first, name)), dict(getattr(second, name)))
    for name in ("flow", "image_encoder"):
        assert equal(load_file(a / f"{name}.safetensors"), load_file(b / f"{name}.safetensors"))
    assert read_log(a)["loss"] == read_log(b)["loss"] and read_log(a)["val/loss"] == read_log(b)["val/loss"]


def test_flow_and_encoder_are_averaged_and_exported_together(run):
    state = load_checkpoint(run)
    encoder, flow = clone(PatchTokenEncoder.load(run / "image_encoder")), clone(load(run / "flow"))
    exported = {f"flow.{key}": value for key, value in flow.items()}
    exported |= {f"image_encoder.{key}": value for key, value in encoder.items()}
    assert equal(exported, dict(state.average))
    assert {key.removeprefix("student.") for key in state.weights} == exported.keys()
    start = clone(new_encoder())
    assert encoder.keys() == start.keys() and not any(torch.equal(value, start[key]) for key, value in encoder.items())


def test_a_killed_run_goes_on_bitwise(run, folder, networks, tmp_path):
    with pytest.raises(RuntimeError, match="power"):
        train(0, folder.path, networks, tmp_path, stop=3, accumulate=2)
    assert load_checkpoint(tmp_path).step == 2
    train(0, folder.path, networks, tmp_path, accumulate=2)
    assert_same_run(run, tmp_path)


def test_two_processes_train_as_one(run, folder, networks, tmp_path):
    results = run_group(train, folder.path, networks, tmp_path)
    assert results[0] == results[1], results
    assert_same_run(run, tmp_path)


def test_validation_sees_unchanged_pictures_under_the_averaged_encoder(folder, networks, tmp_path):
    task = FlowTask(joint_config(folder, networks), seed=0, device="cpu")
    assert isinstance(task.module, nn.ModuleDict) and task.batches.conditions["val"].augmentation is None
    assert task.batches.conditions["val"].encoder is task.module["image_encoder"]
    assert blocks_of(task.module) == blocks_of(task.flow) != []
    with torch.no_grad():
        first = task.evaluate(tmp_path, 0)
        assert first == task.evaluate(tmp_path, 0) and first.keys() == {"loss", "iou", "f1", "voxels"}
        task.flow.out_layer.weight.normal_(generator=seeded())  # it starts at zero, blind to its conditions
        for block in task.flow.blocks:
            block.adaLN_modulation[-1].weight.normal_(generator=seeded())
        before = task.evaluate(tmp_path, 0)["loss"]
        task.module["image_encoder"].norm.bias.add_(1)
        assert task.evaluate(tmp_path, 0)["loss"] != before


@pytest.mark.parametrize(("stage", "kind"), [("structure", DenseBatches), ("latent", SparseBatches)])
def test_later_stages_use_the_exported_encoder_as_it_is(stage, kind, run, folder, networks):
    encoder = PatchTokenEncoder.load(run / "image_encoder")
    values = flow_values(stage, folder.path, networks, image_encoder=str(run / "image_encoder"))
    batches = kind(from_dict(StageData, values["data"]), seed=0, device="cpu")
    batch = batches.train(draw(0, 2))
    assert batch.cond.shape == (2, 196, CHANNELS) and not batch.cond.requires_grad and len(batch.key) == 32
    generator = draw(0, 2).generator
    flips = torch.rand(2, generator=generator) < 0.5
    views = torch.randint(NUM_VIEWS, (2,), generator=generator)
    crops = batches.conditions["train"].pictures[batches.epochs.batch(0, 2), views] / 255
    expected = encoder(torch.stack([crop.flip(-1) if flip else crop for crop, flip in zip(crops, flips, strict=True)]))
    torch.testing.assert_close(batch.cond, expected.detach(), atol=1e-5, rtol=0)
    task = FlowTask(from_dict(FlowConfig, values), seed=0, device="cpu")
    assert not isinstance(task.module, nn.ModuleDict) and task.flow is task.module
    task.loss(draw(0, 2))["loss"].backward()
    assert task.module.out_layer.weight.grad.abs().max() > 0


def test_kept_trajectories_are_found_again_although_tokens_are_rounded_otherwise(run, folder, networks, tmp_path):
    values = flow_values("structure", folder.path, networks, image_encoder=str(run / "image_encoder"))["data"]
    options = {"num_batches": 2, "steps": 2, "cache": str(tmp_path)}
    config = from_dict(
        DistilConfig,
        {"data": values, "teacher": str(run / "flow"), "objective": "trajectory", "trajectories": options},
    )
    read = []
    for noise in (0.0, 1e-6):
        task = DistilTask(config, seed=0, device="cpu")
        encode = task.batches.conditions["train"]._encode
        task.batches.conditions["train"]._encode = lambda crops, encode=encode, noise=noise: encode(crops) + noise
        for step in range(4):
            assert torch.isfinite(task.loss(draw(step, 2, seed=step))["loss"])
        read.append((task.store.num_sampled, task.store.num_read))
    assert read == [(2, 0), (0, 2)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage": "latent"}, "stage 'latent'; an encoder is trained in the structure stage"),
        ({"image_encoder": "there"}, "data.image_encoder is there; remove one of them"),
    ],
)
def test_an_encoder_is_trained_in_the_structure_stage_alone(changes, words, networks):
    values = flow_values("structure", Path("prepared"), networks)
    del values["data"]["image_encoder"]
    with pytest.raises(InputError, match=words):
        from_dict(FlowConfig, values | {"data": values["data"] | changes, "image_encoder": {}})


def test_an_encoder_that_does_not_fit_the_flow_is_refused(folder, networks):
    with pytest.raises(InputError, match="gives 97 channels, but flow.network takes cond_channels = 96"):
        FlowTask(joint_config(folder, networks, image_encoder=ENCODER | {"channels": 97}), seed=0, device="cpu")
    with pytest.raises(InputError, match="flow.image_encoder does not describe a PatchTokenEncoder: .*width"):
        FlowTask(joint_config(folder, networks, image_encoder={"width": 3}), seed=0, device="cpu")
