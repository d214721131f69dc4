"""Data sets by name, each in its publisher's own layout, made small; nothing here needs a network."""

import csv
import json
import tarfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from mdtdist.data.sources import (
    Asset,
    captions_of,
    find_source,
    future3d,
    hash_file,
    hssd,
    list_folder,
    published,
    read_table,
)
from mdtdist.data.sources.abo import Abo
from mdtdist.data.sources.ledger import FILE_NAME, Entry, Ledger
from mdtdist.errors import InputError
from tests.data.tables import CAPTIONS, COLUMNS, by_id, pack, sha, write, write_table

# -------------------------------------------------------------------------------------------------------- the table


def test_metadata_of_the_table_is_carried_along(tmp_path):
    write_table(tmp_path, "ABO.csv", {"A/B0A.glb": b"a"})
    write(tmp_path / "raw/3dmodels/original/A/B0A.glb", b"a")
    (asset,) = find_source("abo").list(tmp_path)
    assert asset.sha256 == sha(b"a") and asset.name == "B0A" and asset.license == "CC-BY-4.0"
    assert asset.source_id == "abo/A/B0A.glb"
    assert asset.metadata == {
        "file_identifier": "A/B0A.glb",
        "aesthetic_score": 5.25,
        "captions": CAPTIONS,
        "local_path": "raw/3dmodels/original/A/B0A.glb",
    }
    assert captions_of(asset.metadata) == ["A red chair, with arms.", "chair"]
    hash(asset)  # a record stays usable as a key


def test_metadata_csv_of_the_official_tools_is_a_table(tmp_path):
    with (tmp_path / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([(*COLUMNS, "rendered"), (sha(b"a"), "A/B0A.glb", "", "", "True")])
    write(tmp_path / "raw/3dmodels/original/A/B0A.glb", b"a")
    (asset,) = find_source("ABO").list(tmp_path)
    assert "aesthetic_score" not in asset.metadata and captions_of(asset.metadata) == []


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sha256,captions\n", "no column file_identifier"),
        ("sha256,file_identifier\nxyz,a\n", "line 2: sha256 is 'xyz'"),
        (f"sha256,file_identifier\n{'0' * 64},\n", "file_identifier is empty"),
        (f"sha256,file_identifier,aesthetic_score\n{'0' * 64},a,high\n", "line 2: could not convert"),
    ],
)
def test_table_that_is_none_is_refused(tmp_path, text, match):
    path = tmp_path / "ABO.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=match):
        read_table(path)


def test_captions_are_a_list_of_strings():
    for text in ("no json", '{"a": 1}', "[1]"):
        with pytest.raises(InputError):
            captions_of({"captions": text})


def test_identifier_that_climbs_out_is_left_out(tmp_path, caplog):
    write_table(tmp_path / "root", "ABO.csv", {"../../../../secret.glb": b"s", "A/B0A.glb": b"a"})
    write(tmp_path / "secret.glb", b"s")
    write(tmp_path / "root/raw/3dmodels/original/A/B0A.glb", b"a")
    assert list(by_id(find_source("abo").list(tmp_path / "root"))) == ["A/B0A.glb"]
    assert "leaves the folder" in caplog.text


def test_names_and_aliases():
    assert find_source("ObjaverseXL_sketchfab").name == "objaverse"
    assert find_source("ObjaverseXL_github").name == "objaverse-xl-github"
    assert find_source("3D-FUTURE").name == "3d-future" and find_source("Toys4k").name == "toys4k"
    with pytest.raises(InputError, match="did you mean hssd"):
        find_source("hsd")


# -------------------------------------------------------------------------------------------- hashes and the ledger


def test_files_with_another_hash_are_left_out_and_recorded(tmp_path, caplog):
    write_table(tmp_path, "ABO.csv", {"A/1.glb": b"one", "A/2.glb": b"two"})
    write(tmp_path / "raw/3dmodels/original/A/1.glb", b"one")
    write(tmp_path / "raw/3dmodels/original/A/2.glb", b"bad")
    assert list(by_id(find_source("abo").list(tmp_path))) == ["A/1.glb"]
    assert "published is" in caplog.text
    assert Ledger(tmp_path).get(sha(b"two")).status == "wrong hash"


def test_files_are_hashed_once(tmp_path, monkeypatch):
    write_table(tmp_path, "ABO.csv", {"A/1.glb": b"one"})
    path = write(tmp_path / "raw/3dmodels/original/A/1.glb", b"one")
    find_source("abo").list(tmp_path)
    monkeypatch.setattr("mdtdist.data.sources.source.hash_file", lambda path: pytest.fail("hashed again"))
    assert len(find_source("abo").list(tmp_path)) == 1
    monkeypatch.undo()
    path.write_bytes(b"longer")  # of another size: hashed again
    with pytest.raises(InputError, match="holds no model"):
        find_source("abo").list(tmp_path)


def test_ledger_survives_a_torn_line(tmp_path):
    entries = [Entry(sha256=str(i), status="ok", path="p", num_bytes=i) for i in range(3)]
    Ledger(tmp_path).add(entries[0])
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"sha256": "1", "sta')
    ledger = Ledger(tmp_path)
    ledger.add(entries[1])
    ledger.add(entries[2])
    assert [Ledger(tmp_path).get(str(i)) for i in range(3)] == entries


def test_without_a_table_the_layout_itself_counts(tmp_path):
    write(tmp_path / "3dmodels/original/A/1.glb", b"one")  # no raw/, as the archive unpacks
    (asset,) = find_source("abo").list(tmp_path)
    assert asset.sha256 == sha(b"one") and asset.metadata["file_identifier"] == "A/1.glb"


def test_empty_root_says_how_to_get_the_data(tmp_path):
    with pytest.raises(InputError, match="accept the terms on https://tianchi"):
        find_source("3d-future").list(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        find_source("abo").list(tmp_path / "absent")


# --------------------------------------------------------------------------------------------------------------- ABO


@pytest.fixture
def bucket(tmp_path):
    """An http server of a folder; what was asked for is in ``asked``."""
    folder, asked = tmp_path / "bucket", []
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, form, *args):
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield folder, Abo(url=f"http://127.0.0.1:{server.server_port}", workers=2), asked
    server.shutdown()
    server.server_close()


def test_abo_chosen_objects_come_file_by_file(tmp_path, bucket):
    folder, source, asked = bucket
    write_table(tmp_path, "ABO.csv", {"A/1.glb": b"one", "A/2.glb": b"two", "B/3.glb": b"three"})
    write(folder / "3dmodels/original/A/1.glb", b"one")
    write(folder / "3dmodels/original/B/3.glb", b"three")
    seen = []
    for _ in range(2):  # the second time nothing is asked for
        result = source.fetch(tmp_path, ["A/1.glb", sha(b"three")], progress=lambda *event: seen.append(event))
        assert (result.num_there, result.failed) == (2, {})
    assert sorted(asked) == ["/3dmodels/original/A/1.glb", "/3dmodels/original/B/3.glb"]
    assert seen == [("fetch abo", 1, 2), ("fetch abo", 2, 2)]
    assert sorted(by_id(source.list(tmp_path))) == ["A/1.glb", "B/3.glb"]


def test_abo_wrong_hash_is_fetched_once_more_and_recorded(tmp_path, bucket):
    folder, source, asked = bucket
    write_table(tmp_path, "ABO.csv", {"A/1.glb": b"one", "A/2.glb": b"two", "A/3.glb": b"three"})
    write(folder / "3dmodels/original/A/1.glb", b"not")
    write(tmp_path / "raw/3dmodels/original/A/3.glb", b"cut")  # what another tool left
    write(folder / "3dmodels/original/A/3.glb", b"three")
    result = source.fetch(tmp_path, ["A/1.glb", "A/3.glb"])
    assert result.num_there == 1 and "expected" in result.failed[sha(b"one")]
    assert sorted(asked) == ["/3dmodels/original/A/1.glb"] * 2 + ["/3dmodels/original/A/3.glb"]
    assert not (tmp_path / "raw/3dmodels/original/A/1.glb").exists()
    assert Ledger(tmp_path).get(sha(b"one")).status == "wrong hash"
    write(folder / "3dmodels/original/A/1.glb", b"one")  # a later run tries again
    assert source.fetch(tmp_path, ["A/1.glb"]).failed == {}


def test_abo_whole_set_comes_as_the_archive(tmp_path, bucket):
    folder, source, asked = bucket
    write_table(tmp_path, "ABO.csv", {"A/1.glb": b"one", "B/2.glb": b"two", "B/gone.glb": b"gone"})
    (folder / "archives").mkdir()
    with tarfile.open(folder / "archives/abo-3dmodels.tar", "w") as tar:
        for name, data in (("A/1.glb", b"one"), ("B/2.glb", b"two"), ("B/unwanted.glb", b"x")):
            tar.add(write(tmp_path / "pack" / name, data), f"3dmodels/original/{name}")
    result = source.fetch(tmp_path)
    assert result.num_there == 2 and result.failed == {sha(b"gone"): "it did not arrive; run it again"}
    assert asked == ["/archives/abo-3dmodels.tar"]
    assert not (tmp_path / "raw/3dmodels/original/B/unwanted.glb").exists()


def test_limit_and_unknown_ids(tmp_path, bucket):
    folder, source, _ = bucket
    write_table(tmp_path, "ABO.csv", {"A/1.glb": b"one", "A/2.glb": b"two"})
    write(folder / "3dmodels/original/A/1.glb", b"one")
    assert source.fetch(tmp_path, limit=1).num_there == 1
    with pytest.raises(InputError, match="'A/9.glb' is not in the published table"):
        source.fetch(tmp_path, ["A/9.glb"])


# --------------------------------------------------------------------------------------------------- 3D-FUTURE


def _future(folder, ids):
    files = {
        f"3D-FUTURE-model/{i}/{name}": f"{i}{name}".encode() for i in ids for name in ("raw_model.obj", "model.mtl")
    }
    files |= {f"3D-FUTURE-model/{i}/image.jpg": i.encode() for i in ids}
    info = [{"model_id": i, "super-category": "Chair", "category": "Stool"} for i in ids]
    files["3D-FUTURE-model/model_info.json"] = json.dumps(info).encode()
    pack(folder / "raw" / future3d.ARCHIVE, files)


def test_future_is_unpacked_and_known_by_the_hash_of_its_image(tmp_path):
    write_table(tmp_path, "3D-FUTURE.csv", {"3D-FUTURE-model/aa": b"aa", "3D-FUTURE-model/bb": b"another image"})
    _future(tmp_path, ["aa", "bb", "cc"])
    result = find_source("3d-future").fetch(tmp_path)
    assert result.num_there == 1 and "image.jpg has sha256" in result.failed[sha(b"another image")]
    (asset,) = find_source("3d-future").list(tmp_path)
    assert asset.path == tmp_path / "raw/3D-FUTURE-model/aa/raw_model.obj" and asset.sha256 == sha(b"aa")
    assert asset.path.with_name("model.mtl").exists() and not (tmp_path / "raw/3D-FUTURE-model/cc").exists()
    assert asset.name == "aa" and asset.category == "Chair"


def test_future_without_its_archive_says_what_to_do(tmp_path):
    write_table(tmp_path, "3D-FUTURE.csv", {"3D-FUTURE-model/aa": b"aa"})
    with pytest.raises(InputError, match="3D-FUTURE-model.zip does not exist: accept the terms"):
        find_source("3d-future").fetch(tmp_path)


# ------------------------------------------------------------------------------------------------------------ HSSD


def test_hssd_comes_from_the_hub(tmp_path, monkeypatch):
    write_table(tmp_path, "HSSD.csv", {"objects/a/ab.glb": b"one", "objects/c/cd.glb": b"two"})
    asked = []

    def fetch_file(repository, name, folder):
        asked.append(name)
        if name == "objects/c/cd.glb":
            raise InputError("cannot fetch it (timed out)")
        return write(folder / name, b"one")

    monkeypatch.setattr(hssd, "fetch_file", fetch_file)
    result = find_source("hssd").fetch(tmp_path)
    assert result.failed == {sha(b"two"): "cannot fetch it (timed out)"}
    assert asked[0] == "README.md" and sorted(asked[1:]) == ["objects/a/ab.glb", "objects/c/cd.glb"]
    (asset,) = find_source("hssd").list(tmp_path)
    assert asset.path == tmp_path / "raw/objects/a/ab.glb" and asset.license == "CC-BY-NC-4.0"


def test_hub_says_what_is_missing(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub.errors import GatedRepoError

    def refuse(*args, **kwargs):
        raise GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    write_table(tmp_path, "HSSD.csv", {"objects/a/ab.glb": b"one"})
    with pytest.raises(InputError, match="gated: accept its terms on .*hssd-models, then run `hf auth login`"):
        find_source("hssd").fetch(tmp_path)

    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    with pytest.raises(InputError, match=r"cannot fetch ABO.csv from .*TRELLIS-500K \(no network\)"):
        published.fetch_table(tmp_path / "other", "ABO.csv")
    with pytest.raises(InputError, match="leaves the folder"):
        published.fetch_table(tmp_path / "other", "../ABO.csv")


def test_hssd_layout_without_a_table_leaves_parts_and_openings_out(tmp_path):
    for name in ("a/ab.glb", "decomposed/ab/ab_part_1.glb", "openings/200-3.glb"):
        write(tmp_path / "objects" / name, name.encode())
    assert list(by_id(find_source("hssd").list(tmp_path))) == ["objects/a/ab.glb"]


# ---------------------------------------------------------------------------------------------------------- Toys4K


def _toys(root, has_blend, has_obj):
    write_table(root, "Toys4k.csv", {"hammer/hammer_075/hammer_075.blend": b"blend"})
    if has_blend:
        pack(root / "raw/toys4k_blend_files.zip", {"toys4k_blend_files/hammer/hammer_075/hammer_075.blend": b"blend"})
    if has_obj:
        near = "toys4k_obj_files/hammer/hammer_075"
        pack(root / "raw/toys4k_obj_files.zip", {f"{near}/mesh.obj": b"obj", f"{near}/mesh.mtl": b"mtl"})


@pytest.mark.parametrize(
    ("has_blend", "has_obj", "suffix"), [(True, True, ".obj"), (True, False, ".blend"), (False, True, ".obj")]
)
def test_toys_are_read_in_the_form_that_can_be_read(tmp_path, has_blend, has_obj, suffix):
    _toys(tmp_path, has_blend, has_obj)
    assert find_source("toys4k").fetch(tmp_path).failed == {}
    (asset,) = find_source("toys4k").list(tmp_path)
    assert asset.path.suffix == suffix and asset.path.is_file()
    assert asset.sha256 == sha(b"blend")  # the published name, whatever the form
    assert asset.name == "hammer_075" and asset.category == "hammer"
    assert suffix == ".blend" or asset.path.with_name("mesh.mtl").is_file()


def test_toys_without_archive_or_table(tmp_path):
    _toys(tmp_path, False, False)
    with pytest.raises(InputError, match="download toys4k_obj_files.zip"):
        find_source("toys4k").fetch(tmp_path)
    write(tmp_path / "bare/toys4k_obj_files/hammer/hammer_075/mesh.obj", b"obj")
    (asset,) = find_source("toys4k").list(tmp_path / "bare")
    assert asset.metadata["file_identifier"] == "hammer/hammer_075/hammer_075.blend" and asset.sha256 == sha(b"obj")


# ----------------------------------------------------------------------------------------------------- plain folders


def test_any_folder_lists_all_formats_once(tmp_path):
    for name in ("chairs/chair_1.glb", "a.gltf", "b.OBJ", "c.ply", "d.stl", "e.fbx", "f.off", "note.txt"):
        write(tmp_path / name, name.encode())
    write(tmp_path / "z_copy.glb", b"chairs/chair_1.glb")
    assets = list_folder(tmp_path)
    assert [asset.source_id for asset in assets] == [
        "a.gltf", "b.OBJ", "c.ply", "chairs/chair_1.glb", "d.stl", "e.fbx", "f.off",
    ]  # fmt: skip
    assert assets[3] == Asset(
        source_id="chairs/chair_1.glb",
        sha256=hash_file(tmp_path / "chairs/chair_1.glb"),
        path=tmp_path / "chairs/chair_1.glb",
        name="chair",
        category="chairs",
    )
