"""Image-to-shape scores: what the networks are given under each convention, and what a scorer says it is."""

import argparse
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image
from torch import nn

from mdtdist.errors import InputError
from mdtdist.evaluation.encoders import ulip, uni3d
from mdtdist.evaluation.encoders.shape_scores import (
    CONVENTIONS,
    ShapeConvention,
    ShapeScorer,
    cosine_similarity,
    load_shape_scorer,
)
from mdtdist.evaluation.encoders.towers import LAYOUTS, TowerConfig
from mdtdist.evaluation.encoders.transforms import IMAGENET_MEAN
from mdtdist.evaluation.encoders.ulip import UlipConfig, UlipPointModel
from mdtdist.evaluation.encoders.uni3d import Uni3DConfig, Uni3DPointModel

NUM_POINTS = 600


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class _Spy(nn.Module):
    """Keeps what it is given and embeds everything as 1."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(())), []

    def forward(self, *inputs):
        self.seen.append(inputs)
        return torch.ones(len(inputs[0]), 4)


def _scorer(kind="uni3d", convention=CONVENTIONS["default"], **changes):
    spy, tower = _Spy(), _Spy()
    return ShapeScorer(kind, spy, tower, name="spy", convention=convention, **changes), spy, tower


def _cloud(scorer, batch=1):
    return torch.rand(batch, scorer.num_points, 3) - 0.5


@pytest.mark.parametrize(("kind", "expected"), [("ulip1", 8192), ("ulip2", 10000), ("uni3d", 10000)])
def test_number_of_points_is_that_of_the_training(kind, expected):
    assert _scorer(kind)[0].num_points == expected
    assert _scorer(kind, CONVENTIONS["flashvdm"])[0].num_points == 8192


@pytest.mark.parametrize(
    ("axes", "expected"),
    [("y-up", [0.1, 0.3, -0.2]), ("exchanged", [0.1, 0.3, 0.2]), ("z-up", [0.1, 0.2, 0.3])],
)
def test_axes(axes, expected):
    convention = ShapeConvention(axes=axes, normalization="none")
    torch.testing.assert_close(convention.place(torch.tensor([[[0.1, 0.2, 0.3]]]))[0, 0], torch.tensor(expected))


def test_front_and_top_are_those_of_a_gltf_file():
    # Ours: front -Y, top +Z. glTF: front +Z, top +Y.
    front, top = torch.tensor([[[0.0, -1, 0]]]), torch.tensor([[[0.0, 0, 1]]])
    convention = ShapeConvention(normalization="none")
    assert convention.place(front).flatten().tolist() == [0, 0, 1]
    assert convention.place(top).flatten().tolist() == [0, 1, 0]


def test_default_gives_the_unit_sphere_whatever_the_size():
    scorer, spy, _ = _scorer()
    points = _cloud(scorer)
    scorer.embed_shapes(points)
    scorer.embed_shapes(0.1 * points + 3)
    first, second = (inputs[0] for inputs in spy.seen)
    assert first.norm(dim=-1).max().item() == pytest.approx(1) and first.mean(1).abs().max() < 1e-6
    torch.testing.assert_close(second, first, atol=1e-5, rtol=0)


def test_flashvdm_gives_coordinates_as_they_are_times_the_scale():
    scorer, spy, _ = _scorer(convention=CONVENTIONS["flashvdm"])
    points = _cloud(scorer)
    scorer.embed_shapes(points)
    torch.testing.assert_close(spy.seen[0][0][..., 1], points[..., 2])
    doubled = ShapeConvention(normalization="none", scale=2.0).place(points)
    torch.testing.assert_close(doubled[..., 0], 2 * points[..., 0])


def test_colours_are_passed_on_and_their_lack_is_grey():
    scorer, spy, _ = _scorer()
    points, colors = _cloud(scorer), torch.rand(1, scorer.num_points, 3)
    scorer.embed_shapes(points, colors)
    scorer.embed_shapes(points)
    assert torch.equal(spy.seen[0][1], colors)
    assert torch.equal(spy.seen[1][1], torch.full_like(points, 0.4))


def test_flashvdm_paints_everything_one_grey():
    scorer, spy, _ = _scorer(convention=CONVENTIONS["flashvdm"])
    points = _cloud(scorer)
    scorer.embed_shapes(points, torch.rand_like(points))
    assert torch.equal(spy.seen[0][1], torch.full_like(points, 100 / 255))


def test_pictures_are_normalised_as_the_tower_was_trained_or_as_flashvdm_does():
    white = Image.new("RGB", (224, 224), "white")
    mean = {}
    for name, convention in CONVENTIONS.items():
        scorer, _, tower = _scorer("ulip1", convention)
        scorer.embed_images([white])
        mean[name] = tower.seen[0][0][0, 0].mean().item()
    assert mean["default"] == pytest.approx((1 - IMAGENET_MEAN[0]) / 0.229, rel=1e-5)
    assert mean["flashvdm"] == pytest.approx(1, rel=1e-5)


def test_flashvdm_resizes_ulip_pictures_to_248_before_the_crop():
    picture = Image.new("RGB", (248, 248), "black")
    picture.paste("white", (0, 0, 12, 248))  # the crop of 224 from 248 leaves exactly this border out
    scorer, _, tower = _scorer("ulip1", CONVENTIONS["flashvdm"])
    scorer.embed_images([picture])
    assert tower.seen[0][0].max().item() == -1


def test_hidden_colours_appear_under_flashvdm_only():
    hidden = Image.new("RGBA", (224, 224), (255, 0, 0, 0))
    for name, expected in (("default", 1.0), ("flashvdm", 0.0)):
        scorer, _, tower = _scorer("uni3d", CONVENTIONS[name])
        scorer.embed_images([hidden])
        green = 0.26130258 * tower.seen[0][0][0, 1].mean().item() + 0.4578275
        assert green == pytest.approx(expected, abs=1e-5)


def test_many_clouds_and_pictures_go_in_parts_and_come_back_in_order():
    scorer, spy, tower = _scorer()
    assert scorer.embed_shapes(_cloud(scorer, 9)).shape == (9, 4)
    assert [len(inputs[0]) for inputs in spy.seen] == [4, 4, 1]
    assert scorer.embed_images([Image.new("RGB", (224, 224))] * 17).shape == (17, 4)
    assert [len(inputs[0]) for inputs in tower.seen] == [16, 1]


@pytest.mark.parametrize(
    ("points", "colors", "message"),
    [
        (torch.zeros(1, 100, 3), None, "expected \\[B, 10000, 3\\]"),
        (torch.zeros(10000, 3), None, "expected \\[B, 10000, 3\\]"),
        (torch.zeros(1, 10000, 3), torch.zeros(1, 3), "expected one each"),
    ],
)
def test_clouds_of_another_shape_are_refused(points, colors, message):
    with pytest.raises(InputError, match=message):
        _scorer()[0].embed_shapes(points, colors)


def test_an_embedding_that_is_not_finite_is_refused():
    scorer, spy, _ = _scorer()
    spy.forward = lambda *inputs: torch.tensor([[1.0, 2.0], [1.0, float("nan")]])
    with pytest.raises(InputError, match="embedding 1 of spy"):
        scorer.embed_shapes(_cloud(scorer, 2))


def test_similarity_is_the_cosine():
    shapes, images = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [-2.0, 0.0]])
    torch.testing.assert_close(cosine_similarity(shapes, images), torch.tensor([0.96, -1.0]))


@pytest.mark.parametrize(
    "changes",
    [{"axes": "x-up"}, {"normalization": "cube"}, {"scale": 0.0}, {"missing_color": 2.0}, {"num_points": 0}],
)
def test_conventions_are_checked(changes):
    with pytest.raises(InputError):
        ShapeConvention(**changes)


def test_every_choice_is_in_the_tag():
    tags = {ShapeConvention().tag, ShapeConvention(scale=2).tag, ShapeConvention(missing_color=0.5).tag}
    tags |= {convention.tag for convention in CONVENTIONS.values()}
    assert len(tags) == 4 and all("-" in tag for tag in tags)
    assert ShapeConvention().tag.startswith("default-")


# Small networks in the public layouts; 64 channels are one head.
ULIP = UlipConfig(in_channels=6, channels=64, depth=1, num_heads=1, hidden=64, group_channels=16, embed_channels=12)
ULIP1 = UlipConfig(**{**vars(ULIP), "in_channels": 3})
UNI3D = Uni3DConfig(
    channels=64,
    depth=1,
    num_heads=1,
    hidden=64,
    feed_forward="packed",
    fused=True,
    group_channels=16,
    embed_channels=12,
)
TOWER = TowerConfig(image_size=224, patch_size=56, channels=64, depth=1, num_heads=1, hidden=64, embed_channels=12)


def _tensors(network):
    return {
        name: value if value.dtype == torch.int64 else torch.rand_like(value) * 0.2 + 0.1
        for name, value in network.state_dict().items()
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files as they are published: half precision, ``module.``, Namespace."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("public")
    towers = {kind: _tensors(layout.network(TOWER)) for kind, layout in LAYOUTS.items()}
    ulip1 = {f"module.{name}": value for name, value in {**_tensors(UlipPointModel(ULIP1)), **towers["slip"]}.items()}
    torch.save({"epoch": 1, "state_dict": ulip1, "args": argparse.Namespace(lr=1.0)}, folder / "ulip1.pt")
    torch.save({"state_dict": _tensors(UlipPointModel(ULIP))}, folder / "ulip2.pt")
    leftover = {"point_encoder.visual.cls_token": torch.ones(1, 1, 64), **_tensors(Uni3DPointModel(UNI3D))}
    torch.save({"module": {name: _half(value) for name, value in leftover.items()}}, folder / "uni3d.pt")
    torch.save(towers["clip"], folder / "clip.bin")
    torch.save({name: _half(value) for name, value in towers["eva"].items()}, folder / "eva.bin")
    return folder


@pytest.fixture
def few_groups(monkeypatch):
    """A few groups instead of 512, which no tensor shows, to be quick."""
    for module, name in ((ulip, "ulip_config"), (uni3d, "uni3d_config")):
        read = getattr(module, name)
        monkeypatch.setattr(module, name, partial(_with_few_groups, read))


def _with_few_groups(read, *args, **options):
    return replace(read(*args, **options), num_groups=20, group_size=8)


def _half(value):
    return value.half() if value.is_floating_point() else value


@pytest.mark.parametrize(("kind", "tower"), [("ulip1", None), ("ulip2", "clip.bin"), ("uni3d", "eva.bin")])
def test_a_score_from_published_files(files, kind, tower, few_groups):
    convention = ShapeConvention(num_points=NUM_POINTS)
    scorer = load_shape_scorer(kind, weights=files / f"{kind}.pt", tower=tower and files / tower, convention=convention)
    points = _cloud(scorer)
    shape, image = scorer.embed_shapes(points), scorer.embed_images([Image.new("RGBA", (300, 200))])
    assert shape.shape == image.shape == (1, 12) and shape.dtype == torch.float32
    assert abs(cosine_similarity(shape, image).item()) <= 1
    torch.testing.assert_close(scorer.embed_shapes(3 * points), shape, atol=1e-5, rtol=1e-5)


def test_names_tell_architecture_files_and_convention(files):
    name = load_shape_scorer("ulip1", weights=files / "ulip1.pt").name
    assert name.startswith("ulip1-pointbert-1x64-d12-") and name.endswith("/" + CONVENTIONS["default"].tag)
    with_tower = load_shape_scorer("ulip2", weights=files / "ulip2.pt", tower=files / "clip.bin").name
    assert with_tower.startswith("ulip2-pointbert-1x64-d12-") and "+clip-" in with_tower
    uni3d = load_shape_scorer("uni3d", weights=files / "uni3d.pt", convention=CONVENTIONS["flashvdm"]).name
    assert uni3d.startswith("uni3d-64-") and "/flashvdm-" in uni3d


def test_conventions_reach_the_network(files):
    modes = {}
    for name, convention in CONVENTIONS.items():
        for kind in ("ulip1", "uni3d"):
            network = load_shape_scorer(kind, weights=files / f"{kind}.pt", convention=convention)._network
            modes[name, kind] = network.point_encoder.encoder.batch_statistics
            assert network.point_encoder.skip_origin and not network.training
    assert [key for key, value in modes.items() if value] == [("flashvdm", "uni3d")]


def test_ulip_files_are_not_taken_for_each_other(files):
    with pytest.raises(InputError, match="no ulip2 checkpoint.*load it as ulip1"):
        load_shape_scorer("ulip2", weights=files / "ulip1.pt")
    with pytest.raises(InputError, match="no ulip1 checkpoint.*load it as ulip2"):
        load_shape_scorer("ulip1", weights=files / "ulip2.pt", tower=files / "clip.bin")
    with pytest.raises(InputError, match="no Uni3D point encoder"):
        load_shape_scorer("uni3d", weights=files / "ulip2.pt")
    with pytest.raises(InputError, match="kind of shape score is 'ulip'"):
        load_shape_scorer("ulip", weights=files / "ulip1.pt")


def test_pictures_need_a_tower_of_the_same_space(files, tmp_path):
    scorer = load_shape_scorer("uni3d", weights=files / "uni3d.pt")
    with pytest.raises(InputError, match="no image tower.*eva02_enormous"):
        scorer.embed_images([Image.new("RGB", (8, 8))])
    wide = TowerConfig(**{**vars(TOWER), "embed_channels": 16})
    torch.save(_tensors(LAYOUTS["eva"].network(wide)), tmp_path / "eva.bin")
    with pytest.raises(InputError, match="16 dimensions.*not trained together"):
        load_shape_scorer("uni3d", weights=files / "uni3d.pt", tower=tmp_path / "eva.bin")
