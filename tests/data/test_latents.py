"""Latents of a prepared folder, by tiny encoders."""

import json

import numpy as np
import pytest
import torch

from mdtdist import models
from mdtdist.cli.main import main
from mdtdist.data import PrepareConfig, files, prepare
from mdtdist.data.latents import latent_folder, latent_statistics, mirror, structure_latents, structured_latents
from mdtdist.errors import InputError
from mdtdist.sparse import SparseTensor, pack_coords
from tests.training.tiny import ENCODERS, randomized, write_prepared


@pytest.fixture
def prepared(tmp_path):
    return write_prepared(tmp_path / "data")


@pytest.fixture
def encoders(tmp_path):
    paths = {stage: tmp_path / f"{stage}_enc" for stage in ENCODERS}
    for seed, (stage, path) in enumerate(paths.items()):
        models.save(randomized(*ENCODERS[stage], seed=seed), path)
    return paths


def _add(prepared, encoders, **kwargs):
    config = PrepareConfig(
        out=prepared.path,
        stages=("latents",),
        structure_encoder=encoders.get("structure"),
        latent_encoder=encoders.get("latent"),
    )
    return prepare(None, config, **kwargs)


def test_files_hold_what_the_encoders_say(prepared, encoders):
    calls = []
    rows = _add(prepared, encoders, progress=lambda *call: calls.append(call))
    assert [row["status"] for row in rows] == ["ok"] * 8
    assert calls == [(name, n, 8) for name in ("ss_latents", "latents") for n in range(1, 9)]
    sha = prepared.ids()[2]
    nets = {kind: models.load(path) for kind, path in encoders.items()}
    grid, (coords, feats) = prepared.occupancy(sha), prepared.features(sha)
    with torch.no_grad():
        mean, flipped = nets["structure"](torch.stack([grid, grid.flip(0)])[:, None].float())[0]
        expected, _ = nets["latent"](SparseTensor(feats.float(), pack_coords([coords])))
    with np.load(latent_folder(prepared.path, encoders["structure"], kind="structure") / f"{sha}.npz") as data:
        assert data["mean"].dtype == np.float32 and data["mean"].shape == (4, 8, 8, 8)
        np.testing.assert_allclose(data["mean"], mean, rtol=1e-3, atol=1e-4)  # float16 precision
        np.testing.assert_allclose(data["mean_mirrored"], flipped, rtol=1e-3, atol=1e-4)
        assert np.abs(data["mean"] - data["mean_mirrored"]).max() > 0.02
    with np.load(latent_folder(prepared.path, encoders["latent"], kind="latent") / f"{sha}.npz") as data:
        assert data["feats"].dtype == np.float32 and data["coords"].dtype == np.uint8
        np.testing.assert_array_equal(data["coords"], coords)
        np.testing.assert_allclose(data["feats"], expected, rtol=1e-3, atol=1e-4)


def test_mirroring_turns_x_around(prepared):
    grid, voxels = prepared.occupancy(prepared.ids()[2]), prepared.voxels(prepared.ids()[2]).long()
    expected = torch.zeros_like(grid)
    expected[31 - voxels[:, 0], voxels[:, 1], voxels[:, 2]] = True
    assert torch.equal(mirror(grid), expected) and not torch.equal(expected, grid)


def test_finished_latents_are_kept_and_read_by_training(prepared, encoders):
    _add(prepared, encoders)
    folder = latent_folder(prepared.path, encoders["latent"], kind="latent")
    paths = sorted(folder.glob("*.npz"))
    stamps = [path.stat().st_mtime_ns for path in paths]
    paths[3].unlink()
    ids = prepared.ids("train")
    dense, sparse = (
        encode(prepared, ids, encoders[kind])
        for encode, kind in ((structure_latents, "structure"), (structured_latents, "latent"))
    )
    _add(prepared, encoders)
    again = [path.stat().st_mtime_ns for path in paths]
    assert [before == after for before, after in zip(stamps, again, strict=True)] == [n != 3 for n in range(8)]
    assert dense.shape == (5, 2, 4, 8, 8, 8) and torch.equal(dense, dense.half().float())
    with np.load(folder / f"{ids[3]}.npz") as data:
        stored = torch.stack([torch.from_numpy(data[name]) for name in ("feats", "feats_mirrored")])
    assert torch.equal(stored, sparse[3][0]) and sparse[3][1].dtype == torch.int32


def test_another_encoder_has_another_folder(prepared, tmp_path):
    ids, results = prepared.ids("val"), []
    for seed in (1, 2):
        models.save(randomized(*ENCODERS["structure"], seed=seed), tmp_path / "enc")
        results.append(structure_latents(prepared, ids, tmp_path / "enc"))
        assert torch.equal(structure_latents(prepared, ids, tmp_path / "enc"), results[-1])
    assert not torch.equal(*results)
    names = [path.name for path in (prepared.path / "ss_latents").iterdir()]
    assert len(names) == 2 and all(name.startswith("enc_") and len(name) == 12 for name in names)


def test_every_asset_counts_the_same_in_the_statistics(prepared, encoders):
    _add(prepared, encoders)
    mean, std = latent_statistics([torch.tensor([[1.0]] * 9), torch.tensor([[4.0]])])
    assert mean.item() == 2.5 and std.item() == 1.5
    values = json.loads((latent_folder(prepared.path, encoders["latent"], kind="latent") / "stats.json").read_text())
    latents = structured_latents(prepared, prepared.ids("train"), encoders["latent"])
    mean, std = latent_statistics([feats[0] for feats, _ in latents])
    torch.testing.assert_close((torch.tensor(values["mean"]), torch.tensor(values["std"])), (mean, std))
    assert values["num_assets"] == 5


def test_a_bad_asset_is_recorded_and_heals(prepared, encoders):
    sha = prepared.ids("train")[1]
    path = files.feature_path(prepared.path, sha)
    whole, table = path.read_bytes(), (prepared.path / "metadata.csv").read_bytes()
    path.write_bytes(whole[:100])
    rows = {row["sha256"]: row for row in _add(prepared, encoders)}
    assert rows[sha]["status"] == "failed" and rows[sha]["reason"].startswith("latents: ")
    assert sum(row["status"] == "ok" for row in rows.values()) == 7
    folder = latent_folder(prepared.path, encoders["latent"], kind="latent")
    assert list(json.loads((folder / "failed.json").read_text())) == [sha]
    assert (prepared.path / "metadata.csv").read_bytes() == table  # other encoders may still want the asset
    with pytest.raises(InputError, match=f"asset {sha} cannot be encoded"):
        structured_latents(prepared, prepared.ids("train"), encoders["latent"])
    path.write_bytes(whole)
    assert all(row["status"] == "ok" for row in _add(prepared, encoders))
    assert json.loads((folder / "failed.json").read_text()) == {}
    assert json.loads((folder / "stats.json").read_text())["num_assets"] == 5


def test_command_needs_no_source_for_latents_alone(prepared, encoders, capsys):
    command = ["prepare", "--out", str(prepared.path), "--stages", "latents"]
    assert main([*command, "--structure-encoder", str(encoders["structure"]), "--limit", "3"]) == 0
    assert "3 assets: 3 ok" in capsys.readouterr().out
    assert len(list((prepared.path / "ss_latents").rglob("*.npz"))) == 3 and not (prepared.path / "latents").exists()


def test_wrong_encoders_are_named(prepared, encoders, tmp_path, capsys):
    command = ["prepare", "--out", str(prepared.path), "--stages"]
    structure, latent = str(encoders["structure"]), str(encoders["latent"])
    assert main([*command, "latents"]) == 2
    assert main([*command, "voxels", "--latent-encoder", latent]) == 2
    assert main([*command, "latents", "--latent-encoder", str(tmp_path / "none")]) == 2
    assert main([*command, "latents", "--latent-encoder", structure]) == 2
    assert main(["prepare", "--out", str(tmp_path), "--stages", "latents", "--latent-encoder", latent]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    words = ["no encoder was given", "without it", "none.safetensors is missing", "expected a SLatEncoder", "metadata"]
    assert len(lines) == 5 and all(word in line for word, line in zip(words, lines, strict=True))
