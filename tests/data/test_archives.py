"""Archives from strangers: bombs, names that climb out, links and damage."""

import io
import stat
import tarfile
import zipfile

import pytest

from mdtdist.data import archives, sweethome
from mdtdist.data.archives import extract, extract_tar, inside, open_zip, unpack_zip
from mdtdist.data.sources import list_assets
from mdtdist.data.untrusted import Limits
from mdtdist.errors import InputError


def _zip(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _refused(path, folder, match, **limits):
    with pytest.raises(InputError, match=match):
        unpack_zip(path, folder, limits=Limits(**limits))
    assert not folder.exists() or not any(path.is_file() for path in folder.rglob("*"))


def test_honest_archive_is_unpacked_whole(tmp_path):
    unpack_zip(_zip(tmp_path / "a.zip", **{"a/b.txt": b"one", "c.txt": b"two", "empty/": b""}), tmp_path / "out")
    assert (tmp_path / "out/a/b.txt").read_bytes() == b"one" and (tmp_path / "out/c.txt").read_bytes() == b"two"


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..\\x", "C:/x", "C:\\x"])
def test_member_outside_the_folder_is_refused(tmp_path, name):
    _refused(_zip(tmp_path / "a.zip", **{name: b"x"}), tmp_path / "out", "leaves the folder")
    assert not (tmp_path / "x").exists()


def test_link_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member = zipfile.ZipInfo("link")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    _refused(tmp_path / "a.zip", tmp_path / "out", "symbolic link")


def test_bomb_is_refused_by_ratio_size_and_count(tmp_path, monkeypatch):
    path = _zip(tmp_path / "a.zip", zeros=bytes(10**6), more=b"x")
    _refused(path, tmp_path / "out", "1,000,001 bytes, more than 1,000,000", max_unpacked_bytes=10**6)
    _refused(path, tmp_path / "out", "holds 2 files, more than 1", max_members=1)
    monkeypatch.setattr(archives, "_HARMLESS_BYTES", 10**5)
    _refused(path, tmp_path / "out", "an archive bomb")
    unpack_zip(path, tmp_path / "out", limits=Limits(max_ratio=2000))


def test_bomb_of_many_small_members_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_HARMLESS_BYTES", 10**5)
    path = _zip(tmp_path / "a.zip", **{f"zeros{i}": bytes(50_000) for i in range(3)})
    _refused(path, tmp_path / "out", "to 150,000, an archive bomb")


def test_a_single_member_is_held_against_the_limits(tmp_path, monkeypatch):
    path = _zip(tmp_path / "a.zip", zeros=bytes(10**6))
    with open_zip(path) as archive:
        with pytest.raises(InputError, match="1,000,000 bytes, more than 999,999"):
            extract(archive, ["zeros"], tmp_path, limits=Limits(max_member_bytes=999_999))
        monkeypatch.setattr(archives, "_HARMLESS_BYTES", 10**5)
        with pytest.raises(InputError, match="archive bomb"):
            extract(archive, ["zeros"], tmp_path, limits=Limits())
        with pytest.raises(InputError, match="holds no absent"):
            extract(archive, ["absent"], tmp_path, limits=Limits())


def test_declared_size_that_is_a_lie_is_damage(tmp_path):
    path = _zip(tmp_path / "a.zip", zeros=bytes(10**6))
    data = path.read_bytes()
    path.write_bytes(data.replace((10**6).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    _refused(path, tmp_path / "out", "not a readable zip|damaged")


@pytest.mark.parametrize("cut", [1, 100, 10_000])
def test_damaged_archive_is_refused(tmp_path, cut):
    path = _zip(tmp_path / "a.zip", data=bytes(range(256)) * 200)
    path.write_bytes(path.read_bytes()[:-cut] or b"x")
    _refused(path, tmp_path / "out", "not a readable zip")
    with pytest.raises(InputError, match="does not exist"):
        unpack_zip(tmp_path / "absent.zip", tmp_path / "out")


def test_member_that_is_there_is_not_written_again(tmp_path):
    path = _zip(tmp_path / "a.zip", data=b"new")
    (tmp_path / "data").write_bytes(b"old")  # of the same size
    with open_zip(path) as archive:
        extract(archive, ["data"], tmp_path, limits=Limits())
        assert (tmp_path / "data").read_bytes() == b"old"
        (tmp_path / "data").write_bytes(b"cut"[:1])
        extract(archive, ["data"], tmp_path, limits=Limits())
    assert (tmp_path / "data").read_bytes() == b"new"


def test_tar_members_are_plain_files_below_the_folder(tmp_path):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, kind in (("a/ok", tarfile.REGTYPE), ("../up", tarfile.REGTYPE), ("link", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, 3 if kind == tarfile.REGTYPE else 0, "/etc/passwd"
            tar.addfile(member, io.BytesIO(b"abc"))
    raw.seek(0)
    with tarfile.open(fileobj=raw) as tar:
        ok, up, link = tar.getmembers()
        assert extract_tar(tar, ok, tmp_path, limits=Limits()).read_bytes() == b"abc"
        for member, match in ((up, "leaves the folder"), (link, "no plain file")):
            with pytest.raises(InputError, match=match):
                extract_tar(tar, member, tmp_path, limits=Limits())
        with pytest.raises(InputError, match="3 bytes, more than 2"):
            extract_tar(tar, ok, tmp_path, limits=Limits(max_member_bytes=2))


def test_inside_keeps_ordinary_names(tmp_path):
    assert inside(tmp_path, "a/b c.glb") == tmp_path / "a" / "b c.glb"


def test_library_that_climbs_out_is_refused(tmp_path):
    catalog = "license=CC0\nname#1=x\nwidth#1=1\ndepth#1=1\nheight#1=1\nmodel#1={}\n"
    (tmp_path / "secret.obj").write_text("v 0 0 0\n")
    for model, match in (("/../../secret.obj", "leaves the folder"), ("/absent.obj", "cannot be used")):
        path = _zip(tmp_path / f"{len(match)}.sh3f", **{sweethome.CATALOG: catalog.format(model)})
        with pytest.raises(InputError, match=match):
            list_assets(path, cache=tmp_path / "cache")


def test_library_that_is_a_bomb_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_HARMLESS_BYTES", 10**5)
    path = _zip(tmp_path / "bomb.sh3f", **{sweethome.CATALOG: "", "zeros": bytes(10**6)})
    with pytest.raises(InputError, match="archive bomb"):
        list_assets(path, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*")) if (tmp_path / "cache").exists() else True


def test_package_with_an_absurd_size_is_refused(tmp_path):
    path = tmp_path / "p.deb"
    path.write_bytes(b"!<arch>\n" + b"data.tar".ljust(48) + b"9999999999`\n" + b"x")
    with pytest.raises(InputError, match="cut short"):
        list_assets(path, cache=tmp_path / "cache")
    path.write_bytes(b"!<arch>\n" + b"data.tar.xz".ljust(48) + b"4         `\n" + b"nope")
    with pytest.raises(InputError, match="cannot be unpacked"):
        list_assets(path, cache=tmp_path / "cache")
