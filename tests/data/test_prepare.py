import csv

import pytest

from mdtdist.data import PrepareConfig, PreparedFolder, files, list_assets, prepare
from mdtdist.data import views as views_module
from mdtdist.errors import InputError
from tests.data.shapes import write_obj


@pytest.fixture
def models(tmp_path):
    """Three boxes, one sheet, one broken file."""
    folder = tmp_path / "models"
    for index in range(3):
        write_obj(folder, mtl="Kd 1 0 0", name=f"box_{index}", extent=(1, 2, 2 + index))
    write_obj(folder, mtl="Kd 1 0 0", name="sheet", extent=(1, 0.001, 1))
    (folder / "broken.obj").write_text("v 0 0 0\nf 1 2 9\n")
    return folder


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(views_module, "SIZE", 32)


def _run(models, out, *stages, **kwargs):
    assets = list_assets(models, cache=out / "source")
    rows = prepare(assets, PrepareConfig(out=out, stages=stages, workers=1, **kwargs))
    return {row["source_id"]: row for row in rows}


def test_bad_assets_are_recorded_and_do_not_stop_the_run(models, tmp_path):
    out = tmp_path / "out"
    rows = _run(models, out, "voxels")
    assert {name: row["status"] for name, row in rows.items()} == {
        "box_0.obj": "ok",
        "box_1.obj": "ok",
        "box_2.obj": "ok",
        "broken.obj": "failed",
        "sheet.obj": "excluded",
    }
    assert rows["broken.obj"]["reason"].startswith("voxels: ") and "flat" in rows["sheet.obj"]["reason"]
    with (out / "metadata.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == [row["status"] for row in rows.values()]
    later = _run(models, out, "renders", limit=None)  # the failure stays on record when its stage is not tried again
    assert later["broken.obj"]["reason"] == rows["broken.obj"]["reason"]


def test_finished_files_are_not_made_again(models, tmp_path):
    out = tmp_path / "out"
    rows = _run(models, out, "voxels")
    paths = [files.voxel_path(out, row["sha256"]) for row in rows.values() if row["status"] == "ok"]
    stamps = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    _run(models, out, "voxels")
    again = [path.stat().st_mtime_ns for path in paths]
    assert [before == after for before, after in zip(stamps, again, strict=True)] == [True, False, True]


def test_killed_run_resumes(models, tmp_path, monkeypatch):
    pytest.importorskip("embreex")
    out = tmp_path / "out"
    _run(models, out, "voxels")
    calls = []

    def write_view(*args):
        calls.append(args)
        if len(calls) == 15:  # within the second asset
            raise KeyboardInterrupt
        return original(*args)

    original = views_module._write_view
    monkeypatch.setattr(views_module, "_write_view", write_view)
    with pytest.raises(KeyboardInterrupt):
        _run(models, out, "renders")
    folder = PreparedFolder(out)
    assert len(folder.missing(folder.ids(), "renders")) == 2
    calls.clear()
    monkeypatch.setattr(views_module, "_write_view", original)
    rows = _run(models, out, "renders")
    assert not folder.missing(folder.ids(), "renders") and rows["box_2.obj"]["rendered"]
    assert not [path for path in out.rglob(".*") if path.is_file()]


def test_workers_give_the_same_files(models, tmp_path):
    assets = list_assets(models, cache=tmp_path / "source")
    progress = []
    for workers in (1, 2):
        config = PrepareConfig(out=tmp_path / str(workers), stages=("voxels",), workers=workers)
        prepare(assets, config, progress=lambda *call: progress.append(call))
    names = sorted(path.name for path in (tmp_path / "1" / "voxels").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "2" / "voxels").iterdir()) and len(names) == 4
    assert (tmp_path / "1" / "metadata.csv").read_text() == (tmp_path / "2" / "metadata.csv").read_text()
    assert progress[4] == ("voxels", 5, 5)


def test_all_stages_make_a_folder_that_reads_back(models, tmp_path):
    pytest.importorskip("embreex")
    out = tmp_path / "out"
    _run(models, out, "voxels", "renders", "features", limit=1)
    folder = PreparedFolder(out)
    (sha256,) = folder.ids()
    indices, feats = folder.features(sha256)
    assert (indices == folder.voxels(sha256)).all() and feats.shape == (len(indices), 180)
    assert folder.occupancy(sha256).sum() == len(indices) and folder.occupancy(sha256)[tuple(indices.long().T)].all()
    assert folder.condition_tokens(sha256).shape == (8, 2, 49, 896) and len(folder.views(sha256)) == 12
    assert feats.isfinite().all() and feats[:, 0].float().mean() > 0.5 > feats[:, 1].float().mean()  # a red box


def test_reading_says_what_is_missing(models, tmp_path):
    with pytest.raises(InputError, match="mdtdist prepare"):
        PreparedFolder(tmp_path / "nowhere")
    out = tmp_path / "out"
    _run(models, out, "voxels")
    folder = PreparedFolder(out)
    with pytest.raises(InputError, match="stage features"):
        folder.features(folder.ids()[0])
    with pytest.raises(InputError, match="unknown split"):
        folder.ids("training")


@pytest.mark.parametrize("wrong", [{"stages": ("voxel",)}, {"stages": ()}, {"workers": 0}, {"limit": 0}])
def test_wrong_settings_are_named(tmp_path, wrong):
    with pytest.raises(InputError):
        PrepareConfig(out=tmp_path, **wrong)


def test_source_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        list_assets(tmp_path / "nowhere", cache=tmp_path)
    with pytest.raises(InputError, match="holds no"):
        list_assets(tmp_path, cache=tmp_path)
