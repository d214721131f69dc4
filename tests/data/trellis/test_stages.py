"""From a model file to what both trainers read, and the life cycle of the files."""

import csv
import json
import math
import pickle

import numpy as np
import plyfile
import pytest
import torch
from PIL import Image

from mdtdist import models
from mdtdist.data.files import write_csv
from mdtdist.data.sources import Asset, hash_file
from mdtdist.data.trellis import TrellisSettings, trellis_finish, trellis_stages
from mdtdist.data.trellis.latents import write_statistics
from mdtdist.errors import InputError
from mdtdist.training.trellis_data import TrellisData, find_objects, read_structure, read_structured
from mdtdist.training.view_conditions import read_render, view_paths
from tests.data.shapes import write_obj

pytest.importorskip("embreex")
pytest.importorskip("numba")

RESOLUTION, CHANNELS = 8, 180
SLAT = "efficientnet_lite0_mean_slat_enc_tiny"


def _network(name, seed, path, **args):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = models.build(name, **args)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    path.parent.mkdir(exist_ok=True)
    models.save(network, path)
    return path


def _latent_encoder(path, *, seed=1, channels=CHANNELS):
    return _network(
        "ElasticSLatEncoder", seed, path, resolution=RESOLUTION, in_channels=channels, model_channels=24,
        latent_channels=8, num_blocks=1, num_heads=2, mlp_ratio=2, attn_mode="swin", window_size=8,
    )  # fmt: skip


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    structure = _network(
        "SparseStructureEncoder", 0, folder / "ss_enc_tiny", in_channels=1, latent_channels=8, num_res_blocks=1,
        num_res_blocks_middle=1, channels=[8, 16],
    )  # fmt: skip
    return {"structure_encoder": structure, "latent_encoder": _latent_encoder(folder / "slat_enc_tiny")}


@pytest.fixture(scope="module")
def settings(encoders):
    return TrellisSettings(
        num_cond_views=3, cond_size=64, num_feature_views=4, feature_size=32, resolution=RESOLUTION, **encoders
    )


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    found = []
    for name, colour, extent in (("red", "0.8 0.1 0.1", (1, 2, 4)), ("blue", "0.1 0.1 0.8", (3, 2, 2))):
        path = write_obj(tmp_path_factory.mktemp(name), mtl=f"Kd {colour}", name=name, extent=extent)
        found.append(Asset(source_id=name, sha256=hash_file(path), path=path, name=name))
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, assets, settings):
    """A folder after all stages, as the engine runs them."""
    out, rows = tmp_path_factory.mktemp("prepared"), []
    for asset in assets:
        row = {"sha256": asset.sha256, "status": "ok", "split": "train"}
        for stage in trellis_stages(settings):
            assert not stage.is_done(out, asset.sha256)
            assert True not in stage.columns(out, asset.sha256).values()
            pickle.loads(pickle.dumps(stage.run))(asset, out)
            assert stage.is_done(out, asset.sha256)
            row |= stage.columns(out, asset.sha256)
        rows.append(row)
    trellis_finish(settings)(out, rows)
    write_csv(out / "metadata.csv", rows, columns=list(rows[0]))
    return out


def test_every_file_has_the_name_shape_and_type_of_trellis(prepared, assets):
    for asset in assets:
        sha = asset.sha256
        for folder, count, size in (("renders", 4, 32), ("renders_cond", 3, 64)):
            frames = json.loads((prepared / folder / sha / "transforms.json").read_text())["frames"]
            assert [frame["file_path"] for frame in frames] == [f"{i:03d}.png" for i in range(count)]
            for frame in frames:
                with Image.open(prepared / folder / sha / frame["file_path"]) as image:
                    assert image.mode == "RGBA" and image.size == (size, size)
                    assert image.getchannel("A").getextrema() == (0, 255)
        points = plyfile.PlyData.read(prepared / "voxels" / f"{sha}.ply")["vertex"]
        voxels = (np.stack([points[axis] for axis in "xyz"], axis=1) + 0.5) * RESOLUTION - 0.5
        with np.load(prepared / "features" / "efficientnet_lite0_mean" / f"{sha}.npz") as arrays:
            assert set(arrays.files) == {"indices", "patchtokens"}
            assert arrays["indices"].dtype == np.uint8 and (arrays["indices"] == voxels).all()
            assert arrays["patchtokens"].dtype == np.float16
            assert arrays["patchtokens"].shape == (len(voxels), CHANNELS)
        with np.load(prepared / "ss_latents" / "ss_enc_tiny" / f"{sha}.npz") as arrays:
            assert arrays.files == ["mean"]
            assert arrays["mean"].dtype == np.float32 and arrays["mean"].shape == (8, 4, 4, 4)
        with np.load(prepared / "latents" / SLAT / f"{sha}.npz") as arrays:
            assert set(arrays.files) == {"feats", "coords"}
            assert arrays["feats"].dtype == np.float32 and arrays["feats"].shape == (len(voxels), 8)
            assert arrays["coords"].dtype == np.uint8 and (arrays["coords"] == voxels).all()


def test_mesh_beside_the_views_is_the_normalised_model(prepared, assets):
    data = plyfile.PlyData.read(prepared / "renders" / assets[0].sha256 / "mesh.ply")["vertex"]
    spans = [float(np.ptp(data[axis])) for axis in "xyz"]
    assert spans == pytest.approx([0.25, 1.0, 0.5], abs=1e-5)  # 1 x 2 x 4 with Y up: depth 4, height 2


def test_columns_are_those_of_the_published_table(prepared):
    with (prepared / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    flags = ["cond_rendered", "rendered", "voxelized", "feature_efficientnet_lite0_mean"]
    flags += ["ss_latent_ss_enc_tiny", f"latent_{SLAT}"]
    assert set(rows[0]) == {"sha256", "status", "split", "num_voxels", *flags}
    assert all(row[flag] == "True" for row in rows for flag in flags)
    for row in rows:
        points = plyfile.PlyData.read(prepared / "voxels" / f"{row['sha256']}.ply")["vertex"]
        assert int(row["num_voxels"]) == len(points.data)


@pytest.mark.parametrize("stage", ["structure", "latent"])
def test_our_trainer_reads_the_folder(prepared, assets, stage):
    objects = find_objects(TrellisData(stage=stage, roots=(prepared,)))
    found = {item.sha256: item for items in objects.values() for item in items}
    assert set(found) == {asset.sha256 for asset in assets}
    for item in found.values():
        assert all(read_render(path, size=32)[3].max() == 1 for path in view_paths(item.views))
        if stage == "structure":
            assert read_structure(item.latent).shape == (8, 4, 4, 4)
        else:
            feats, coords = read_structured(item.latent)
            assert len(feats) == len(coords) == item.num_voxels


def test_condition_views_show_the_colour_of_the_model(prepared, assets):
    for asset, channel in zip(assets, (0, 2), strict=True):
        pixels = np.asarray(Image.open(prepared / "renders_cond" / asset.sha256 / "000.png"))
        assert pixels[pixels[..., 3] == 255].mean(axis=0)[:3].argmax() == channel


def test_latents_are_posterior_means_of_what_is_stored(prepared, assets, encoders):
    sha = assets[0].sha256
    with np.load(prepared / "features" / "efficientnet_lite0_mean" / f"{sha}.npz") as arrays:
        indices, tokens = arrays["indices"].astype(np.int64), arrays["patchtokens"].astype(np.float32)
    grid = torch.zeros(1, 1, *(RESOLUTION,) * 3)
    grid[0, 0, *indices.T] = 1
    coords = torch.cat([torch.zeros(len(indices), 1), torch.from_numpy(indices)], dim=1).int()
    with torch.no_grad():
        structure = models.load(encoders["structure_encoder"])(grid)[0][0]
        latent = models.load(encoders["latent_encoder"])(models_input(tokens, coords))[0]
    assert np.allclose(np.load(prepared / "ss_latents" / "ss_enc_tiny" / f"{sha}.npz")["mean"], structure, atol=1e-6)
    assert np.allclose(np.load(prepared / "latents" / SLAT / f"{sha}.npz")["feats"], latent, atol=1e-5)


def models_input(tokens, coords):
    from mdtdist.sparse import SparseTensor

    return SparseTensor(torch.from_numpy(tokens), coords)


def test_statistics_weigh_assets_equally(tmp_path):
    """One asset of two voxels and one of one: mean of means, and of mean squares."""
    for name, feats in (("a", [[1.0, 0.0], [3.0, 0.0]]), ("b", [[6.0, 5.0]]), ("held out", [[100.0, 0.0]])):
        np.savez(tmp_path / f"{name}.npz", feats=np.array(feats, dtype=np.float32))
    assert write_statistics(tmp_path, ["a", "b", "without latents"]) == 2
    found = json.loads((tmp_path / "stats.json").read_text())
    assert set(found) == {"mean", "std"}
    assert found["mean"] == pytest.approx([4.0, 2.5])
    assert found["std"] == pytest.approx([math.sqrt((5 + 36) / 2 - 16), math.sqrt(12.5 - 6.25)])


def test_statistics_are_those_of_the_training_objects(prepared, assets, settings, tmp_path):
    def row(asset, **cells):
        return {"sha256": asset.sha256, "status": "ok", "split": "train"} | cells

    folder = prepared / "latents" / SLAT
    alone = np.load(folder / f"{assets[0].sha256}.npz")["feats"].mean(axis=0)
    for other in ({"split": "val"}, {"status": "failed"}):
        trellis_finish(settings)(prepared, [row(assets[0]), row(assets[1], **other)])
        assert json.loads((folder / "stats.json").read_text())["mean"] == pytest.approx(alone.tolist(), abs=1e-6)
    trellis_finish(settings)(prepared, [row(asset) for asset in assets])
    assert json.loads((folder / "stats.json").read_text())["mean"] != pytest.approx(alone.tolist(), abs=1e-3)


def test_latents_of_other_weights_do_not_mix_in(prepared, assets, settings, encoders, tmp_path):
    from dataclasses import replace

    other = replace(settings, latent_encoder=_latent_encoder(tmp_path / "slat_enc_tiny", seed=2))
    with pytest.raises(InputError, match="other weights"):
        trellis_stages(other)[-1].run(assets[0], prepared)


def test_an_encoder_for_other_features_is_refused(prepared, assets, settings, tmp_path):
    from dataclasses import replace

    other = replace(settings, latent_encoder=_latent_encoder(tmp_path / "for_dino", channels=1024))
    with pytest.raises(InputError, match="180 channels.*takes 1024"):
        trellis_stages(other)[-1].run(assets[0], prepared)


def test_a_killed_rendering_is_not_done(tmp_path, assets, settings, monkeypatch):
    from mdtdist.data.trellis import renders

    def fail(*args):
        raise KeyboardInterrupt

    cond = trellis_stages(settings)[0]
    with monkeypatch.context() as patch:
        patch.setattr(renders, "write_transforms", fail)
        with pytest.raises(KeyboardInterrupt):
            cond.run(assets[0], tmp_path)
    assert (tmp_path / "renders_cond" / assets[0].sha256 / "002.png").exists()
    assert not cond.is_done(tmp_path, assets[0].sha256)
    cond.run(assets[0], tmp_path)
    assert cond.is_done(tmp_path, assets[0].sha256)


def test_threads_and_the_slow_twin_make_the_same_pictures(tmp_path, assets, settings):
    from dataclasses import replace

    pictures = []
    for number, changed in enumerate(({}, {"threads": 3}, {"renderer": "rays"})):
        trellis_stages(replace(settings, **changed))[0].run(assets[0], tmp_path / str(number))
        folder = tmp_path / str(number) / "renders_cond" / assets[0].sha256
        pictures.append(np.stack([np.asarray(Image.open(folder / f"{i:03d}.png")).astype(int) for i in range(3)]))
    assert (pictures[0] == pictures[1]).all()
    assert (np.abs(pictures[0] - pictures[2]).max(-1) > 1).mean() < 1e-3


def test_textures_are_as_fine_as_the_pictures():
    """The narrowest picture is sqrt(3) / cos(fov / 2) wide at the middle of the object."""
    from mdtdist.data.trellis import renders
    from mdtdist.data.trellis.view_law import condition_cameras

    seen = {}
    cameras = condition_cameras("cd" * 32)
    settings = TrellisSettings()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(renders._RENDERERS, "raster", lambda triangles, **options: seen.update(options))
        renders.open_renderer(type("Nothing", (), {"triangles": None})(), cameras, 1024, settings)
    width = math.sqrt(3) / math.cos(min(camera.fov for camera in cameras) / 2)
    assert seen["samples_per_unit"] == pytest.approx(2048 / width, rel=1e-4)


def test_stages_leave_out_latents_without_encoders():
    assert [stage.name for stage in trellis_stages()] == ["renders_cond", "renders", "voxels", "features"]
    assert trellis_stages()[3].needs == ("renders", "voxels")


@pytest.mark.parametrize(
    ("field", "value"), [("num_cond_views", 0), ("threads", 0), ("resolution", 257), ("renderer", "fast")]
)
def test_settings_are_checked(field, value):
    with pytest.raises(InputError, match=f"{field} is {value!r}"):
        TrellisSettings(**{field: value})
