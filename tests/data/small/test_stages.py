"""The layout small from a bundle to what training reads."""

import csv
import json

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from mdtdist import models  # noqa: E402
from mdtdist.cli.main import main  # noqa: E402
from mdtdist.data import PrepareConfig, PreparedFolder, files, prepare  # noqa: E402
from mdtdist.data.bundle import list_bundle, write_bundle  # noqa: E402
from mdtdist.data.engine import Shard  # noqa: E402
from mdtdist.data.latents import encode_structured, mirror_coords  # noqa: E402
from mdtdist.data.layouts import mini_layout, trellis_layout  # noqa: E402
from mdtdist.data.prepare import merge  # noqa: E402
from mdtdist.data.small import small_layout, turned  # noqa: E402
from mdtdist.data.small import views as small_views  # noqa: E402
from mdtdist.data.small.attributes import NUM_CHANNELS, mirror_rule  # noqa: E402
from mdtdist.data.small.stages import FEATURES, surface_voxels  # noqa: E402
from mdtdist.data.sources import Asset  # noqa: E402
from mdtdist.data.tables import check_layout  # noqa: E402
from mdtdist.data.voxelize import voxelize_surface  # noqa: E402
from mdtdist.errors import InputError  # noqa: E402
from mdtdist.representations.triangles import Material, TexturedTriangles  # noqa: E402
from mdtdist.sparse import SparseTensor, pack_coords  # noqa: E402
from tests.data.shapes import BLUE, RED, facing_square, join  # noqa: E402
from tests.training.tiny import ENCODERS, randomized  # noqa: E402


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Two training objects, one for validation, one test object; the first two share a name."""
    objects = []
    for number, split in enumerate(("train", "train", "val", "test")):
        mesh = join(
            facing_square(-0.1 * number, Material(color=RED)), facing_square(0.3, Material(color=BLUE), half=0.2)
        )
        asset = Asset(
            source_id=f"lib/{number}",
            sha256=f"{number:064x}",
            path=None,
            name="Chair" if number < 2 else f"Chair {number}",
            metadata={"split": split},
        )
        objects.append((asset, mesh))
    path = tmp_path_factory.mktemp("small") / "objects.bundle"
    write_bundle(path, objects)
    return path


@pytest.fixture(scope="module")
def prepared(bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("small") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_views, "COND_SIZE", 32)
        patch.setattr(small_views, "OTHER_SIZE", 32)
        rows = make(bundle, out)
    assert [row["status"] for row in rows] == ["ok"] * 6
    return PreparedFolder(out)


def make(bundle, out, *, turns=2, assets=None, **options):
    assets = turned(list_bundle(bundle), train_turns=turns) if assets is None else assets
    return prepare(assets, PrepareConfig(out=out, layout=small_layout(), workers=1, **options))


def test_the_folder_says_what_it_holds(prepared):
    assert prepared.resolution == 64 and [len(prepared.ids(split)) for split in ("train", "val", "test")] == [4, 1, 1]
    sha = prepared.ids("test")[0]
    indices, feats = prepared.features(sha)
    assert feats.shape == (len(indices), NUM_CHANNELS) and feats.dtype == torch.float16 and feats.isfinite().all()
    assert torch.equal(indices, prepared.voxels(sha)) and int(indices.max()) > 32
    assert prepared.occupancy(sha).shape == (64, 64, 64) and prepared.occupancy(sha).sum() == len(indices)
    views = prepared.views(sha)
    assert [view.is_cond for view in views] == [True] * 4 + [False] * 10
    assert not any(prepared.missing(prepared.ids(), stage) for stage in ("voxels", "renders", "features"))


def test_the_table_has_turns_splits_and_flags(prepared):
    with (prepared.path / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["train"] * 4 + ["val", "test"]
    assert [row["object"] for row in rows] == [f"{number:064x}" for number in (0, 0, 1, 1, 2, 3)]
    assert all(-180 <= float(row["yaw"]) < 0 for row in rows[:4:2])
    assert all(row["voxelized"] == row["rendered"] == row["feature_surface_attributes"] == "True" for row in rows)
    assert all(int(row["num_faces"]) == 4 and int(row["num_voxels"]) > 500 for row in rows)
    assert (prepared.path / "prepare_report.html").exists()


def test_what_the_layout_lacks_is_an_input_error(prepared, tmp_path):
    with pytest.raises(InputError, match="layout small, which keeps no condition tokens"):
        prepared.condition_tokens(prepared.ids()[0])
    with pytest.raises(InputError, match="voxels of 64.3 and 32.3 was asked for"):
        PreparedFolder(prepared.path, resolution=32)
    assert PreparedFolder(prepared.path, resolution=64).resolution == 64
    (tmp_path / "prepared.json").write_text('{"layout": "small"}')
    with pytest.raises(InputError, match="prepared.json cannot be read"):
        PreparedFolder(tmp_path)


def test_a_missing_stage_is_named_as_this_layout_calls_it(bundle, tmp_path):
    make(bundle, tmp_path, stages=("voxels",), limit=1)
    folder = PreparedFolder(tmp_path)
    with pytest.raises(InputError, match="with the stage attributes"):
        folder.features(folder.ids()[0])
    assert len(folder.missing(folder.ids(), "features")) == 1 and not folder.missing(folder.ids(), "voxels")


@pytest.fixture
def few(prepared, tmp_path):
    """The first item with every fiftieth voxel."""
    sha = prepared.ids()[0]
    source, target = (files.feature_path(folder, sha, features=FEATURES) for folder in (prepared.path, tmp_path))
    with np.load(source) as data:
        arrays = {name: data[name][::50] if name in ("indices", "patchtokens") else data[name] for name in data}
    files.write_npz(target, **arrays)
    files.write_contents(tmp_path, small_layout().contents)
    files.write_csv(tmp_path / "metadata.csv", [prepared.rows[sha]], columns=small_layout().columns)
    return PreparedFolder(tmp_path)


@pytest.fixture
def encoder():
    name, args = ENCODERS["latent"]
    return randomized(name, {**args, "resolution": 64, "in_channels": NUM_CHANNELS})


def test_mirrored_latents_come_from_mirrored_attributes(few, encoder):
    (sha,) = few.ids()
    coords, feats = few.features(sha)
    order, sign = (torch.from_numpy(values) for values in mirror_rule())
    flipped = feats[:, order].float() * sign.float()
    assert torch.equal(few.mirrored_features(sha).float(), flipped) and not torch.equal(flipped, feats.float())
    tensors = encode_structured(encoder, few, sha, "cpu")
    items = {"feats": (feats.float(), coords), "feats_mirrored": (flipped, mirror_coords(coords, 64))}
    for key, (values, voxels) in items.items():
        with torch.no_grad():
            expected, _ = encoder(SparseTensor(values, pack_coords([voxels])))
        torch.testing.assert_close(tensors[key], expected, rtol=1e-3, atol=1e-3)


def test_three_layouts_are_told_apart(bundle, tmp_path):
    small, mini, trellis = small_layout(), mini_layout(), trellis_layout(small_layout().stages)
    make(bundle, tmp_path / "small", stages=("voxels",), limit=1)
    files.write_csv(tmp_path / "mini" / "metadata.csv", [], columns=mini.columns)
    files.write_csv(tmp_path / "trellis" / "metadata.csv", [], columns=trellis.columns)
    for layout in (small, mini, trellis):
        for other in (small, mini, trellis):
            if layout is other:
                check_layout(tmp_path / layout.name, other)
                continue
            with pytest.raises(InputError, match=f"holds the layout {layout.name}, not {other.name}"):
                check_layout(tmp_path / layout.name, other)
    (tmp_path / "small" / "metadata.csv").unlink()  # a folder of a killed run
    with pytest.raises(InputError, match="holds the layout small"):
        check_layout(tmp_path / "small", mini)


def test_items_of_one_object_never_come_into_two_sets(bundle, tmp_path):
    items = turned(list_bundle(bundle), train_turns=2)
    wrong = Asset(**{**vars(items[1]), "metadata": {**items[1].metadata, "split": "test"}})
    with pytest.raises(InputError, match="the same for all items of an object"):
        make(bundle, tmp_path, assets=[items[0], wrong])
    with pytest.raises(InputError, match="has no object"):
        make(bundle, tmp_path, assets=list_bundle(bundle))


def test_other_turns_do_not_mix_with_files_of_earlier_ones(bundle, tmp_path):
    make(bundle, tmp_path, stages=("voxels",))
    make(bundle, tmp_path, stages=("voxels",))
    with pytest.raises(InputError, match="in an earlier run; its files are of that one"):
        make(bundle, tmp_path, stages=("voxels",), turns=3)


def test_shards_keep_the_splits_of_the_bundle(bundle, tmp_path):
    for index in (1, 2):
        make(bundle, tmp_path, stages=("voxels",), shard=Shard(index=index, count=2))
    rows = merge(PrepareConfig(out=tmp_path, layout=small_layout()))
    assert sorted(row["split"] for row in rows) == ["test", "train", "train", "train", "train", "val"]
    assert {row["source_id"]: row["split"] for row in rows}["lib/3@0"] == "test"


def test_a_failed_item_keeps_its_split(bundle, tmp_path):
    items = turned(list_bundle(bundle), train_turns=1)[2:]
    broken = Asset(**{**vars(items[0]), "path": tmp_path / "gone.bundle"})
    rows = make(bundle, tmp_path / "out", assets=[broken, items[1]], stages=("voxels",))
    assert [(row["status"], row["split"]) for row in rows] == [("failed", "val"), ("ok", "test")]
    rows = make(bundle, tmp_path / "out", assets=items, stages=("voxels",))
    assert [(row["status"], row["split"]) for row in rows] == [("ok", "val"), ("ok", "test")]


def test_the_command_takes_a_bundle(bundle, tmp_path, capsys):
    out = str(tmp_path / "out")
    command = ["prepare", str(bundle), "--out", out, "--workers=1", "--time-limit=0", "--memory-limit=0", "--json"]
    small = ["--layout", "small", "--stages", "voxels"]
    assert main([*command, *small, "--turns", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == {"train": 6, "val": 1, "test": 1}
    wrong = {
        "go together; got": command,
        "--turns goes with --layout small": [*command, "--turns", "3"],
        "turns is 0": [*command, *small, "--turns", "0"],
        "--cond-size goes with --layout trellis; the layout is small": [*command, *small, "--cond-size", "64"],
        "in an earlier run": [*command, *small],
    }
    wrong["go together; got sweethome, small"] = ["prepare", "--source", "sweethome", "--out", out, *small]
    for words, options in wrong.items():
        assert main(options) == 2
        assert words in capsys.readouterr().err


def test_latents_are_made_as_for_mini(few, encoder, tmp_path):
    models.save(encoder, tmp_path / "slat_enc")
    config = {"out": few.path, "layout": small_layout(), "stages": ("latents",)}
    rows = prepare(None, PrepareConfig(**config, latent_encoder=tmp_path / "slat_enc"))
    assert [row["status"] for row in rows] == ["ok"]
    (folder,) = (few.path / "latents").iterdir()
    with np.load(folder / f"{few.ids()[0]}.npz") as data:
        assert data["feats"].shape == data["feats_mirrored"].shape and data["feats"].shape[1] == 4


def test_cut_faces_touch_the_voxels_of_the_whole_ones():
    rng = np.random.default_rng(0)
    holes = np.full((4, 4, 4), 255, dtype=np.uint8)
    holes[:2, :2, 3] = 0
    mesh = TexturedTriangles(
        vertices=rng.uniform(-0.5, 0.5, size=(36, 3)),
        faces=np.arange(36).reshape(-1, 3),
        uv=rng.random((36, 2)),
        vertex_colors=np.ones((36, 3)),
        face_material=np.arange(12) % 2,
        materials=(Material(), Material(texture=holes)),
    )
    np.testing.assert_array_equal(surface_voxels(mesh, resolution=24), voxelize_surface(mesh, resolution=24))
    opaque = TexturedTriangles(**{**vars(mesh), "materials": (Material(), Material())})
    found = surface_voxels(opaque, resolution=24)
    np.testing.assert_array_equal(found, voxelize_surface(opaque, resolution=24))
    assert found.dtype == np.uint8 and len(found) > 2000
