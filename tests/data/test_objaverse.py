"""Objaverse and the GitHub part of Objaverse-XL, in the layout of their client, which is replaced here."""

import pytest

from mdtdist.data.sources import find_source, objaverse
from mdtdist.errors import InputError
from tests.data.tables import by_id, pack, sha, write, write_table

# ------------------------------------------------------------------------------------------------------- Objaverse


def test_objaverse_comes_through_its_client(tmp_path, monkeypatch):
    address = "https://sketchfab.com/3d-models/"
    write_table(tmp_path, "ObjaverseXL_sketchfab.csv", {address + uid: uid.encode() for uid in ("u1", "u2", "u3")})
    calls = []

    def client(rows, *, source, folder, workers):
        calls.append([row.file_identifier.removeprefix(address) for row in rows])
        for uid in calls[-1]:
            if uid != "u3":
                data = b"bad" if uid == "u2" and len(calls) == 1 else uid.encode()
                write(folder / f"hf-objaverse-v1/glbs/000-023/{uid}.glb", data)
        if "u3" in calls[-1]:
            raise ConnectionError("reset by peer")

    monkeypatch.setattr(objaverse, "download_objects", client)
    result = find_source("objaverse").fetch(tmp_path)
    assert calls == [["u1", "u2", "u3"], ["u2"]]  # a wrong hash once more, what failed in another run
    assert list(result.failed) == [sha(b"u3")] and "reset by peer" in result.failed[sha(b"u3")]
    assets = by_id(find_source("objaverse").list(tmp_path))
    assert assets[address + "u2"].path == tmp_path / "raw/hf-objaverse-v1/glbs/000-023/u2.glb"
    assert find_source("objaverse").list(tmp_path / "raw")[0].name == "u1"  # a client's own folder, without a table


def test_objaverse_without_its_package_names_the_extra(tmp_path):
    try:
        import objaverse as _  # noqa: F401
    except ImportError:
        write_table(tmp_path, "ObjaverseXL_sketchfab.csv", {"https://sketchfab.com/3d-models/u1": b"u1"})
        with pytest.raises(InputError, match=r"mdtdist\[objaverse\]"):
            find_source("objaverse").fetch(tmp_path)


def _github(path):
    return f"https://github.com/owner/repo/blob/0123abcd/{path}"


def test_github_files_lie_in_their_repository(tmp_path, monkeypatch):
    objects = {_github("models/a.obj"): b"a", _github("changed.glb"): b"c", "https://example.com/x.glb": b"x"}
    write_table(tmp_path, "ObjaverseXL_github.csv", objects)

    def client(rows, *, source, folder, workers):
        assert source == "github"
        write(folder / "github/repos/owner/repo/models/a.obj", b"a")
        write(folder / "github/repos/owner/repo/changed.glb", b"other")

    monkeypatch.setattr(objaverse, "download_objects", client)
    result = find_source("objaverse-xl-github").fetch(tmp_path)
    assert list(result.failed) == [sha(b"c")]
    assert (tmp_path / "raw/github/repos/owner/repo/changed.glb").exists()  # a repository stays as it is
    (asset,) = find_source("objaverse-xl-github").list(tmp_path)
    assert asset.path == tmp_path / "raw/github/repos/owner/repo/models/a.obj" and asset.name == "a"


def test_github_repository_as_a_zip_is_unpacked_around_the_object(tmp_path):
    write_table(tmp_path, "ObjaverseXL_github.csv", {_github("models/a.obj"): b"a", _github("gone/b.obj"): b"b"})
    members = {"models/a.obj": b"a", "models/tex/t.png": b"t", "elsewhere/huge.bin": b"h", "models-2/x": b"x"}
    pack(tmp_path / "raw/github/repos/owner/repo.zip", members)
    (asset,) = find_source("objaverse-xl-github").list(tmp_path)
    folder = tmp_path / "raw/github/unpacked/owner/repo"
    assert asset.path == folder / "models/a.obj" and (folder / "models/tex/t.png").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["models"]
