import io
import lzma
import tarfile
import zipfile

import pytest

from mdtdist.data import sweethome
from mdtdist.data.sources import list_assets
from mdtdist.errors import InputError
from tests.data.shapes import write_obj

CATALOG = """\
license=Creative Commons Attribution 3.0 license
id#1=Box#one
name#1=Bill 10\\u20ac
category#1=Office
model#1=/lib/one/one.obj
width#1=10
depth#1=20
height#1=30.5
modelRotation#1=1 0 0 0 0 1 0 -1 0
creator#1=Caf\u00e9
name#2=Plain
category#2=Kitchen
model#2=/lib/two/two.obj
width#2=1
depth#2=2
height#2=3
"""


def _library(path, tmp_path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(sweethome.CATALOG, CATALOG.encode("latin-1"))
        for name in ("one", "two"):
            obj = write_obj(
                tmp_path / name, mtl=f"Kd 0 0 {1 if name == 'one' else 0}", name=name, extent=(1, 1, len(name))
            )
            obj.write_text(f"# {name}\n" + obj.read_text())
            archive.write(obj, f"lib/{name}/{name}.obj")
            archive.write(obj.with_suffix(".mtl"), f"lib/{name}/{name}.mtl")
    return path


def _package(path, library):
    """A Debian package: ar of debian-binary and data.tar.xz."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        tar.add(library, "./usr/share/sweethome3d/furniture/Lib.sh3f")
    members = {"debian-binary": b"2.0\n" + b"odd"[:1], "data.tar.xz": lzma.compress(raw.getvalue())}
    data = b"!<arch>\n"
    for name, body in members.items():
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)
    path.write_bytes(data)
    return path


def test_package_gives_the_assets_of_its_catalogue(tmp_path):
    package = _package(tmp_path / "furniture.deb", _library(tmp_path / "Lib.sh3f", tmp_path))
    for _ in range(2):  # the second time from the cache
        one, two = list_assets(package, cache=tmp_path / "cache")
        assert (one.source_id, one.name, one.category, one.creator) == (
            "Lib/one",
            "Bill 10\u20ac",
            "Office",
            "Caf\u00e9",
        )
        assert one.size_cm == (10.0, 20.0, 30.5) and one.license == "CC-BY-3.0"
        assert one.rotation == (1, 0, 0, 0, 0, 1, 0, -1, 0) and two.rotation is None
        assert one.path.is_file() and one.path.with_suffix(".mtl").is_file()
        assert one.sha256 != two.sha256 and len(one.sha256) == 64


def test_folder_of_libraries(tmp_path):
    folder = tmp_path / "libraries"
    folder.mkdir()
    _library(folder / "Lib.sh3f", tmp_path)
    assert [asset.name for asset in list_assets(folder, cache=tmp_path / "cache")] == ["Bill 10\u20ac", "Plain"]


def test_entries_come_in_the_order_of_their_numbers():
    assert [entry["name"] for entry in sweethome.read_catalog("name#10=b\nname#2=a\nname=title")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Public domain", "CC0-1.0"), ("Creative Commons Attribution 3.0 United States license (c) X", "CC-BY-3.0-US")],
)
def test_license_of_a_library(tmp_path, text, expected):
    assert sweethome._license(f"name=x\nlicense={text}\n", tmp_path) == expected


def test_damaged_files_are_named(tmp_path):
    package = _package(tmp_path / "furniture.deb", _library(tmp_path / "Lib.sh3f", tmp_path))
    package.write_bytes(package.read_bytes()[:-100])
    with pytest.raises(InputError, match="cut short"):
        list_assets(package, cache=tmp_path / "cache")
    package.write_bytes(b"no archive")
    with pytest.raises(InputError, match="not a Debian package"):
        list_assets(package, cache=tmp_path / "cache")
    (tmp_path / "broken.sh3f").write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a readable"):
        list_assets(tmp_path / "broken.sh3f", cache=tmp_path / "cache")


def test_fetch_says_how_to_give_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sweethome.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="apt-get is not on this machine.*give its path"):
        sweethome.fetch_package(tmp_path)
    (tmp_path / sweethome.FILE_NAME).write_bytes(b"something else")
    with pytest.raises(InputError, match="sha256"):
        sweethome.fetch_package(tmp_path)
