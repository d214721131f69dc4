"""Bundles: what is written comes back, one object at a time; what is damaged or absurd is refused."""

import json
import sys
import zipfile

import numpy as np
import pytest

from mdtdist.data import bundle, list_assets
from mdtdist.data.bundle import MAX_TEXTURE, list_bundle, read_object, write_bundle
from mdtdist.data.sources import Asset
from mdtdist.data.untrusted import Limits
from mdtdist.errors import InputError
from mdtdist.representations.triangles import Material, TexturedTriangles
from tests.data.shapes import BLUE, RED, WHITE, facing_square, join

FINE, COARSE = 2048, 1024  # steps of a side


def asset(number, split="train", **values):
    defaults = {
        "name": "Chair",
        "category": "Office",
        "creator": "Ann",
        "license": "CC0-1.0",
        "size_cm": (50, 60, 70.5),
    }
    metadata = {} if split is None else {"split": split}
    return Asset(
        source_id=f"lib/{number}", sha256=f"{number:064x}", path=None, metadata=metadata, **{**defaults, **values}
    )


def picture(height, width, *, seed=0):
    """Smooth colours, the right half see-through."""
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    colors = np.stack([np.sin(x + seed), np.cos(y), np.sin(x + y)], axis=-1) * 100 + 128
    alpha = np.where(np.arange(width) < width / 2, 255, 0)
    return np.concatenate([colors, np.broadcast_to(alpha, (height, width))[..., None]], axis=-1).astype(np.uint8)


def soup(num_faces, *materials, seed=0, uv_scale=2.0):
    """Random triangles that share no vertex, one material after the other."""
    rng = np.random.default_rng(seed)
    return TexturedTriangles(
        vertices=rng.uniform(-0.5, 0.5, size=(3 * num_faces, 3)),
        faces=rng.permutation(3 * num_faces).reshape(-1, 3),
        uv=rng.uniform(-uv_scale, uv_scale, size=(3 * num_faces, 2)),
        vertex_colors=rng.random((3 * num_faces, 3)),
        face_material=np.arange(num_faces) % len(materials),
        materials=materials,
    )


def round_trip(triangles, folder):
    write_bundle(folder / "objects.bundle", [(asset(1), triangles)])
    return read_object(folder / "objects.bundle", asset(1).sha256)


def faces_by_place(triangles, steps):
    """Rounded corners of a face, sorted -> its corner indices in that order, and its number."""
    places = np.round((triangles.vertices + 0.5) * steps).astype(int)
    found = {}
    for number, face in enumerate(triangles.faces):
        order = sorted(face, key=lambda corner: tuple(places[corner]))
        found[tuple(tuple(places[corner]) for corner in order)] = (order, number)
    return found


@pytest.mark.parametrize("uv_scale", [2.0, 1e5])
def test_a_model_comes_back_to_half_a_step(tmp_path, uv_scale):
    materials = (
        Material(color=(0.3, 0.6, 1.0), opacity=0.25),
        Material(color=WHITE, texture=picture(20, 30)),
        Material(color=(0.1, 0.2, 0.3)),
    )
    before = soup(60, *materials, uv_scale=uv_scale)
    after = round_trip(before, tmp_path)
    old, new = (faces_by_place(mesh, FINE) for mesh in (before, after))
    assert old.keys() == new.keys() and len(new) == 60
    for place, (corners, number) in old.items():
        others, other = new[place]
        assert np.abs(before.vertices[corners] - after.vertices[others]).max() <= 0.5 / FINE + 1e-12
        assert np.abs(before.vertex_colors[corners] - after.vertex_colors[others]).max() <= 0.5 / 255 + 1e-12
        kinds = [mesh.materials[mesh.face_material[i]] for mesh, i in ((before, number), (after, other))]
        np.testing.assert_allclose(kinds[0].color, kinds[1].color, atol=0.5 / 255 + 1e-12)
        assert kinds[0].opacity == pytest.approx(kinds[1].opacity, abs=0.5 / 255 + 1e-12)
        assert (kinds[0].texture is None) == (kinds[1].texture is None)
        if kinds[0].texture is not None:
            assert np.abs(before.uv[corners] - after.uv[others]).max() <= 0.5 / 2048 + 1e-9


def test_what_was_rounded_once_comes_back_as_it_is(tmp_path):
    first = round_trip(soup(40, Material(color=RED), Material(color=BLUE, opacity=0.5)), tmp_path)
    second = round_trip(first, tmp_path)
    old, new = (faces_by_place(mesh, FINE) for mesh in (first, second))
    assert old.keys() == new.keys() and first.materials == second.materials
    for place, (corners, number) in old.items():
        others, other = new[place]
        np.testing.assert_array_equal(first.vertices[corners], second.vertices[others])
        np.testing.assert_array_equal(first.vertex_colors[corners], second.vertex_colors[others])
        assert first.face_material[number] == second.face_material[other]
    assert not first.uv.any()  # no texture, no coordinates


def test_a_model_of_many_faces_is_rounded_to_coarser_steps(tmp_path):
    before = soup(10_001, Material(color=RED))
    after = round_trip(before, tmp_path)
    steps = (after.vertices + 0.5) * COARSE
    assert np.array_equal(steps, np.round(steps)) and not np.array_equal(steps / 2, np.round(steps / 2))


def test_faces_without_area_and_faces_twice_are_left_out_and_counted(tmp_path):
    step = 1 / FINE
    vertices = np.array([[0, 0, 0], [0.25, 0, 0], [0, 0.25, 0], [0.5, 0, 0], [0.25, 0.2 * step, 0], [0, 0, 0.4]])
    faces = [[0, 1, 2], [2, 0, 1], [0, 1, 3], [0, 4, 2], [0, 2, 5], [0, 4, 3]]
    colors = np.ones((6, 3))
    mesh = TexturedTriangles(
        vertices=vertices,
        faces=np.array(faces),
        uv=np.zeros((6, 2)),
        vertex_colors=colors,
        face_material=np.ones(6, dtype=np.int64),
        materials=(Material(), Material(color=RED)),
    )
    (packed,) = write_bundle(tmp_path / "o.bundle", [(asset(1), mesh)])
    assert (packed.num_faces, packed.num_dropped) == (2, 4)  # of the first kind three are one, two are on a line
    after = read_object(tmp_path / "o.bundle", asset(1).sha256)
    assert len(after.faces) == 2 and len(after.vertices) == 4 and after.materials == (Material(color=RED),)


def test_textures_shrink_to_the_limit_and_keep_their_holes(tmp_path):
    large, small = picture(100, 1000), picture(16, 24, seed=1)
    mesh = join(facing_square(0, Material(texture=large)), facing_square(0.1, Material(texture=small)))
    after = round_trip(mesh, tmp_path)
    textures = [material.texture for material in after.materials]
    assert [texture.shape for texture in textures] == [(26, MAX_TEXTURE, 4), (16, 24, 4)]
    for texture in textures:
        half = texture.shape[1] // 2
        assert (texture[:, : half - 1, 3] == 255).all() and (texture[:, half + 1 :, 3] == 0).all()
    colors = [image[:, :10, :3].astype(float) for image in (textures[1], small)]
    assert np.abs(colors[0] - colors[1]).mean() < 6  # lossy; seen 3.6


def test_an_equal_texture_is_kept_once(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, size=(64, 64, 4), dtype=np.uint8)
    pair = [Material(texture=noise), Material(texture=noise.copy(), color=RED)]
    sizes = []
    for count in (1, 2):
        mesh = join(*(facing_square(0.1 * i, material) for i, material in enumerate(pair[:count])))
        sizes.append(write_bundle(tmp_path / "o.bundle", [(asset(1), mesh)])[0].num_bytes)
    assert sizes[1] < 1.1 * sizes[0]


def test_provenance_comes_back_in_order(tmp_path):
    mesh = facing_square(0, Material(color=RED))
    given = [
        asset(2, "test"),
        asset(1, "train", size_cm=None, name="Stuhl \u00fc"),
        asset(3, "val", license="CC-BY-3.0"),
    ]
    path = tmp_path / "objects.bundle"
    write_bundle(path, [(item, mesh) for item in given])
    found = list_assets(path, cache=tmp_path)
    assert [item.metadata["split"] for item in found] == ["test", "train", "val"]
    for before, after in zip(given, found, strict=True):
        fields = ("source_id", "sha256", "name", "category", "creator", "license", "size_cm")
        assert all(getattr(before, name) == getattr(after, name) for name in fields) and after.path == path
    first = path.read_bytes()
    write_bundle(path, [(item, mesh) for item in given])
    assert path.read_bytes() == first  # no dates


def test_one_object_is_read_without_the_others_and_without_trimesh(tmp_path, monkeypatch):
    path = tmp_path / "objects.bundle"
    objects = [(asset(number), facing_square(0.1 * number, Material(color=RED))) for number in (1, 2, 3)]
    write_bundle(path, objects)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(asset(2).sha256).header_offset
    data = bytearray(path.read_bytes())
    data[start + 110] ^= 255
    path.write_bytes(data)
    monkeypatch.setitem(sys.modules, "trimesh", None)
    for number in (1, 3):
        assert read_object(path, asset(number).sha256).vertices[0, 1] == pytest.approx(0.1 * number, abs=1 / FINE)
    with pytest.raises(InputError, match="fetch it again|cannot be read"):
        read_object(path, asset(2).sha256)
    assert len(list_bundle(path)) == 3


def test_what_cannot_be_packed_is_named_and_leaves_no_file(tmp_path):
    mesh = facing_square(0, Material())
    far = facing_square(0, Material(), half=0.51)
    point = facing_square(0, Material(), half=1e-5)
    cases = {
        "has the split None": [(asset(1, None), mesh)],
        "has the split 'excluded'": [(asset(1, "excluded"), mesh)],
        "leaves the cube": [(asset(1), far)],
        "no face that is larger": [(asset(1), point)],
        "in the bundle already": [(asset(1), mesh), (asset(1), mesh)],
        "no object was given": [],
    }
    for words, objects in cases.items():
        with pytest.raises(InputError, match=words):
            write_bundle(tmp_path / "objects.bundle", objects)
    assert not list(tmp_path.iterdir())


def test_foreign_and_cut_files_are_input_errors(tmp_path):
    path = tmp_path / "objects.bundle"
    write_bundle(path, [(asset(1), soup(20, Material(color=RED)))])
    data = path.read_bytes()
    with pytest.raises(InputError, match="holds no ffff"):
        read_object(path, "f" * 64)
    with pytest.raises(InputError, match="does not exist"):
        list_bundle(tmp_path / "none.bundle")
    with zipfile.ZipFile(tmp_path / "other.bundle", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match="holds no objects.json"):
        list_bundle(tmp_path / "other.bundle")
    for wrong in (b"", b"hello", data[: len(data) // 2], data[:-30]):
        path.write_bytes(wrong)
        with pytest.raises(InputError):
            list_bundle(path)
        with pytest.raises(InputError):
            read_object(path, asset(1).sha256)


def test_a_stream_that_ends_early_or_never_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "objects.bundle"
    write_bundle(path, [(asset(1), soup(20, Material(color=RED)))])
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(asset(1).sha256, members[asset(1).sha256][:-40])
        archive.writestr("objects.json", members["objects.json"])
    with pytest.raises(InputError, match="cut short"):
        read_object(path, asset(1).sha256)
    monkeypatch.setattr(bundle, "_MAX_BYTES", 200)  # less than the list has
    with pytest.raises(InputError, match="unpacks to more than 200 bytes"):
        list_bundle(path)


def _rewritten(path, member, change):
    """The bundle with one member unpacked, changed and packed again."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[member] = bundle._compress(change(bundle._decompress(members[member], path, member)))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


HEADERS = {
    "num_vertices": {"num_vertices": 10**15},
    "vertices beyond the data": {"num_vertices": 61},
    "too few vertices": {"num_vertices": 59},
    "negative": {"num_vertices": -1},
    "no steps": {"steps": 0},
    "texture of minus one": {"textures": [-1, 1]},
    "no number": {"num_vertices": "many"},
    "infinite": {"num_vertices": float("inf")},
    "no material": {"materials": []},
    "absurd faces": {"materials": [{"color": [1, 1, 1], "opacity": 255, "texture": None, "num_faces": 10**12}]},
    "a colour beyond white": {"materials": [{"color": [1, 1, 256], "opacity": 255, "texture": None, "num_faces": 20}]},
    "an absent texture": {"materials": [{"color": [1, 1, 1], "opacity": 255, "texture": 0, "num_faces": 20}]},
    "no opacity": {"materials": [{"color": [1, 1, 1], "texture": None, "num_faces": 20}]},
}


@pytest.mark.parametrize("case", HEADERS)
def test_absurd_headers_are_refused(tmp_path, case):
    path = tmp_path / "objects.bundle"
    write_bundle(path, [(asset(1), soup(20, Material(color=RED)))])

    def change(data):
        line, _, body = data.partition(b"\n")
        return json.dumps({**json.loads(line), **HEADERS[case]}).encode() + b"\n" + body

    _rewritten(path, asset(1).sha256, change)
    with pytest.raises(InputError):
        read_object(path, asset(1).sha256)


@pytest.mark.parametrize("place", [0, 60, 240, 480, 780])
def test_numbers_out_of_range_are_refused(tmp_path, place):
    """Bytes of the first, second and third vertex numbers, and the highest of positions."""
    path = tmp_path / "objects.bundle"
    write_bundle(path, [(asset(1), soup(20, Material(color=RED)))])

    def change(data):
        body = bytearray(data)
        start = len(data.partition(b"\n")[0]) + 1
        body[start + place : start + place + 20] = b"\xff" * 20
        return bytes(body)

    _rewritten(path, asset(1).sha256, change)
    with pytest.raises(InputError):
        read_object(path, asset(1).sha256)


def test_limits_and_wrong_entries_are_refused(tmp_path):
    path = tmp_path / "objects.bundle"
    write_bundle(path, [(asset(1), soup(20, Material(color=RED)))])
    for limits in (Limits(max_faces=19), Limits(max_vertices=59)):
        with pytest.raises(InputError, match="20 faces and 60 vertices"):
            read_object(path, asset(1).sha256, limits=limits)
    for change in ({"split": "all"}, {"sha256": "../x"}, {"name": 3}, {"size_cm": [1, 2]}, {"size_cm": "large"}):
        write_bundle(path, [(asset(1), soup(20, Material(color=RED)))])
        _rewritten(path, "objects.json", lambda data, new=change: json.dumps([{**json.loads(data)[0], **new}]).encode())
        with pytest.raises(InputError, match="write the bundle again"):
            list_bundle(path)


def test_a_texture_of_another_format_or_size_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "objects.bundle"
    mesh = facing_square(0, Material(texture=picture(40, 40)))
    monkeypatch.setattr(bundle, "MAX_TEXTURE", 2000)
    write_bundle(path, [(asset(1), facing_square(0, Material(texture=picture(300, 40))))])
    monkeypatch.undo()
    with pytest.raises(InputError, match="40 x 300"):
        read_object(path, asset(1).sha256)
    write_bundle(path, [(asset(1), mesh)])
    _rewritten(path, asset(1).sha256, lambda data: data.replace(b"WEBP", b"JPEG"))
    with pytest.raises(InputError, match="cannot be read"):
        read_object(path, asset(1).sha256)
