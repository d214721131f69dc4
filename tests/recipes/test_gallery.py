"""``recipes/small/gallery.py``: its list, what it keeps, its pictures; ``make_inputs.py``: how inputs are cut out."""

import importlib
import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from mdtdist.conditioning.image import prepare_image
from mdtdist.errors import InputError
from mdtdist.pipelines import Asset, EmptyStructureError, ImageTo3D, shipped_models
from mdtdist.representations import Gaussians

RECIPE = Path(__file__).parents[2] / "recipes" / "small"


@pytest.fixture
def small(monkeypatch):
    """Imports a module of the recipe."""
    monkeypatch.syspath_prepend(str(RECIPE))
    return importlib.import_module


# ------------------------------------------------------------------------------------------------------------- the list


def test_the_list_has_six_renders_and_three_drawings_and_photographs_that_can_be_used(small):
    inputs = small("gallery_list").read_gallery().inputs
    assert [item.kind for item in inputs] == 6 * ["render"] + 3 * ["drawing"] + 3 * ["photograph"]
    for item in inputs:
        picture = Image.open(item.path)
        assert picture.mode == "RGBA" and max(picture.size) <= 512 and item.path.stat().st_size <= 100_000
        crop = prepare_image(item.path)
        assert crop.shape == (4, 128, 128) and 0.05 < crop[3].mean() < 0.9


def test_every_picture_that_is_no_render_is_in_the_list_and_has_a_source_with_a_licence(small):
    inputs = [item for item in small("gallery_list").read_gallery().inputs if item.kind != "render"]
    assert sorted(path.name for path in (RECIPE / "inputs").glob("*.png")) == sorted(item.file.name for item in inputs)
    page = (RECIPE / "inputs" / "SOURCES.md").read_text()
    make_inputs, config = small("make_inputs"), small("mdtdist.config")
    for item in inputs:
        source = config.from_dict(make_inputs.Source, item.source)
        assert source.package in make_inputs.PACKAGES and source.license in ("public domain", "CC0 1.0")
        assert make_inputs.source_row(item, source) in page
        assert bool(source.outline) == (item.kind == "photograph")


def test_a_column_is_read_or_refused(small):
    parse = small("gallery_list").Column.parse
    column = parse("student:1+2")
    assert (column.flows, column.steps, column.title) == ("student", (1, 2), "Student 1+2")
    for text in ("student", "student:1", "student:0+2", "pupil:1+2", "student:1+2 "):
        with pytest.raises(InputError, match="expected for example"):
            parse(text)


def test_inputs_are_picked_in_the_order_of_the_list_and_names_are_told_apart(small, tmp_path):
    listing = small("gallery_list")
    inputs = listing.read_gallery().inputs
    assert [item.name for item in listing.pick(inputs, ["photo_cup", "table"])] == ["table", "photo_cup"]
    assert listing.pick(inputs, []) == list(inputs)
    with pytest.raises(InputError, match="no 'sofa'"):
        listing.pick(inputs, ["sofa"])
    entry = '[[inputs]]\ntitle = "A"\nkind = "drawing"\nfile = "{}/a.png"\n'
    (tmp_path / "list.toml").write_text("seed = 0\ncolumns = []\n" + entry.format("x") + entry.format("y"))
    with pytest.raises(InputError, match="the name 'a'"):
        listing.read_gallery(tmp_path / "list.toml")


# ---------------------------------------------------------------------------------------------------------- the inputs


def _resources(files: dict[str, tuple[int, bytes]]) -> bytes:
    """A resource archive with one folder ``top`` and in it files (flags, body)."""
    names, contents, offsets = b"", b"", {}
    for name in ("", "top", *files):
        offsets[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    nodes = [struct.pack(">IHII", offsets[""], 2, 1, 1), struct.pack(">IHII", offsets["top"], 2, len(files), 2)]
    for name, (flags, body) in files.items():
        nodes.append(struct.pack(">IHII", offsets[name], flags, 0, len(contents)))
        contents += struct.pack(">I", len(body)) + body
    tree = b"".join(node + bytes(8) for node in nodes)
    return b"qres" + struct.pack(">4I", 3, 20, 20 + len(tree), 20 + len(tree) + len(contents)) + tree + contents + names


def test_a_file_is_read_from_a_resource_archive(small):
    read = small("make_inputs").read_resource
    packed = struct.pack(">I", 9) + zlib.compress(b"long text")
    data = _resources({"a.webp": (0, b"first"), "b": (1, packed), "c": (4, b"zstd")})
    assert read(data, "top/a.webp") == b"first" and read(data, "top/b") == b"long text"
    for path in ("top/c", "top"):
        with pytest.raises(InputError, match="plain file"):
            read(data, path)
    with pytest.raises(InputError, match="nothing is called 'd'"):
        read(data, "top/d")
    with pytest.raises(InputError, match="qres"):
        read(b"PK" + data, "top/b")


def test_files_are_read_from_a_debian_package(small, tmp_path):
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:xz") as tar:
        entry = tarfile.TarInfo("./usr/share/a.png")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"abc"))
    members = {"debian-binary": b"2.0\n", "data.tar.xz": body.getvalue()}
    archive = b"!<arch>\n"
    for name, content in members.items():
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        archive += b"\n" * (len(content) % 2)
    (tmp_path / "a.deb").write_bytes(archive)
    read = small("make_inputs").read_package
    assert read(tmp_path / "a.deb", ["usr/share/a.png"]) == {"usr/share/a.png": b"abc"}
    with pytest.raises(InputError, match="has no usr/share/b.png"):
        read(tmp_path / "a.deb", ["usr/share/a.png", "usr/share/b.png"])


def test_an_outline_is_opaque_inside_and_open_in_its_holes(small):
    alpha = small("make_inputs").outline_alpha((20, 10), [2, 1, 18, 1, 18, 9, 2, 9], [[12, 3, 16, 3, 16, 6, 12, 6]])
    expected = np.zeros((10, 20), bool)
    expected[1:9, 2:18] = True
    expected[3:6, 12:16] = False
    assert np.array_equal(np.asarray(alpha) > 127, expected)


def test_a_cut_out_has_no_margin_and_no_colour_behind_what_is_transparent(small):
    make_inputs = small("make_inputs")
    source = make_inputs.Source(package="p", member="m", creator="c", license="l", outline=(8, 4, 48, 4, 28, 24))
    picture = make_inputs.cut_out(Image.new("RGB", (60, 40), (200, 100, 50)), source)
    pixels = np.asarray(picture)
    assert abs(picture.width - 41) <= 1 and abs(picture.height - 21) <= 1
    assert pixels[1, picture.width // 2].tolist() == [200, 100, 50, 255]
    assert pixels[-1, 0].tolist() == [0, 0, 0, 0]  # the triangle points down
    plain = make_inputs.Source(package="p", member="m", creator="c", license="l")
    assert make_inputs.cut_out(Image.new("RGBA", (1000, 500), "red"), plain).size == (512, 256)


# ------------------------------------------------------------------------------------------------------------- results


class _Pipe:
    """Counts its runs; makes one small ball, or nothing."""

    def __init__(self, *, is_empty=False):
        self.runs, self.is_empty = [], is_empty

    def prepare(self, path):
        return prepare_image(path)

    def __call__(self, crop, *, steps, flows, seed, decoders):
        self.runs.append((flows, steps, seed, decoders))
        if self.is_empty:
            raise EmptyStructureError("no voxel")
        ball = Gaussians(
            means=torch.zeros(1, 3),
            scales=torch.full((1, 3), 0.1),
            rotations=torch.tensor([[1.0, 0, 0, 0]]),
            opacities=torch.ones(1),
            sh=torch.zeros(1, 1, 3),
        )
        stages = ("conditioning", "structure", "structure_decode", "latent", "gaussians", "other")
        return Asset(
            representations={"gs": ball},
            logits=torch.tensor([[[1.0, -1.0]]]),
            timings={stage: float(number) for number, stage in enumerate(stages)},
            nfe={"structure": 3, "latent": 4},
            steps=steps,
            seed=seed,
            model="m",
            flows=flows,
        )


@pytest.fixture
def parts(small, monkeypatch, tmp_path):
    """The module, two inputs, two columns, and a store; with few small frames."""
    gallery = small("gallery")
    monkeypatch.setattr(gallery, "NUM_FRAMES", 2)
    monkeypatch.setattr(gallery, "SIZE", 8)
    inputs = gallery.pick(gallery.read_gallery().inputs, ["table", "photo_cup"])
    columns = [gallery.Column.parse(text) for text in ("teacher:3+4", "student:1+2")]
    store = gallery.Store(folder=tmp_path, stamps={"teacher": "t", "student": "s"})
    return gallery, inputs, columns, store


def test_a_result_holds_the_seconds_of_the_stages_and_the_turntable(parts):
    gallery, inputs, columns, _ = parts
    pipe = _Pipe()
    result = gallery.generate(pipe, inputs[0], columns[1], seed=7)
    assert pipe.runs == [("student", (1, 2), 7, ["gs"])]
    assert result.total == 0 + 1 + 2 + 3 + 4 and result.num_voxels == 1  # "other" is no stage of generating
    assert result.frames.shape == (2, 8, 8, 3) and result.frames.dtype == np.uint8
    assert result.cell.caption == "10.0 s, 7 NFE"


def test_each_column_runs_once_to_warm_up_and_then_input_by_input(parts):
    gallery, inputs, columns, store = parts
    pipe, said = _Pipe(), []
    made = gallery.make_results(
        {"teacher": pipe, "student": pipe}, inputs, columns, store, seed=0, progress=said.append
    )
    assert [run[0] for run in pipe.runs] == ["teacher"] * 2 + ["student"] * 2 + ["teacher", "student"]
    assert [len(results) for results in made] == [2, 2]
    assert said[0] == "[1/4] table: Teacher 3+4" and said[3].startswith("[4/4] photo_cup: Student 1+2, about ")


def test_a_second_run_makes_only_what_is_missing_or_no_longer_holds(parts):
    gallery, inputs, columns, store = parts
    pipes = {"teacher": _Pipe(), "student": _Pipe(is_empty=True)}

    def make(a_store):
        for pipe in pipes.values():
            pipe.runs.clear()
        return gallery.make_results(pipes, inputs, columns, a_store, seed=0, progress=lambda _: None)

    first, second = make(store), make(store)
    assert not pipes["teacher"].runs and not pipes["student"].runs
    for before, after in zip(first, second, strict=True):
        assert np.array_equal(before[0].frames, after[0].frames) and before[0].facts() == after[0].facts()
        assert after[1].note == "no voxel" and after[1].frames is None and after[1].cell.caption == "nothing made"
    make(gallery.Store(folder=store.folder, stamps={"teacher": "other", "student": "s"}))
    assert len(pipes["teacher"].runs) == 3 and not pipes["student"].runs
    (store.folder / "table_student_1_2.json").unlink()
    make(gallery.Store(folder=store.folder, stamps={"teacher": "other", "student": "s"}))
    assert not pipes["teacher"].runs and len(pipes["student"].runs) == 2


def test_kept_frames_come_back_in_their_order(parts):
    gallery, inputs, columns, store = parts
    frames = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (10, 200)])
    store.save(inputs[0], columns[0], gallery.Result(seconds={"latent": 1.0}, nfe={"latent": 1}, frames=frames))
    assert store.has(inputs[0], columns[0]) and not store.has(inputs[1], columns[0])
    assert np.array_equal(store.load(inputs[0], columns[0]).frames, frames)


def test_the_json_has_medians_of_what_was_made_and_all_results(parts):
    gallery, inputs, columns, _ = parts
    fast, slow = (gallery.Result(seconds={"latent": seconds}, nfe={"latent": 2}) for seconds in (1.0, 4.0))
    made = [[slow, fast], [gallery.Result(note="no voxel"), slow]]
    record = gallery.summarize({"student": {"name": "m"}}, inputs, columns, made, seed=3)
    assert record["seed"] == 3 and record["models"] == {"student": {"name": "m"}}
    first, second = record["columns"].values()
    assert (first["num_made"], first["median_seconds"], first["steps"]) == (1, 4.0, (3, 4))
    assert (second["num_made"], second["median_seconds"], second["median_nfe"]) == (2, 2.5, 2)
    assert record["inputs"]["photo_cup"]["results"]["Teacher 3+4"]["note"] == "no voxel"
    json.dumps(record)


# ------------------------------------------------------------------------------------------------------------- models


@pytest.fixture
def student_only(tmp_path):
    """The shipped model without its teacher."""
    source = shipped_models()["mini"]
    folder = tmp_path / "student_only"
    folder.mkdir()
    (folder / "ckpts").symlink_to(source / "ckpts")
    content = json.loads((source / "pipeline.json").read_text())
    for role in ("sparse_structure_flow_model", "slat_flow_model"):
        del content["args"]["models"][role]
    (folder / "pipeline.json").write_text(json.dumps(content))
    return str(folder)


def test_a_model_without_a_teacher_loses_that_column_unless_another_model_has_one(small, student_only):
    gallery = small("gallery")
    columns = [gallery.Column.parse(text) for text in ("teacher:25+25", "student:1+2")]
    assert set(gallery.open_pipes("mini", teacher=None, columns=columns, device="cpu")) == {"student", "teacher"}
    assert set(gallery.open_pipes(student_only, teacher=None, columns=columns, device="cpu")) == {"student"}
    both = gallery.open_pipes(student_only, teacher="mini", columns=columns, device="cpu")
    assert (both["student"].model_id, both["teacher"].model_id) == (student_only, "mini")
    with pytest.raises(InputError, match="no 'teacher' flows"):
        gallery.open_pipes("mini", teacher=student_only, columns=columns, device="cpu")


def test_the_digest_tells_models_apart_and_no_name_is_a_path(small, student_only):
    gallery, pipe, other = small("gallery"), *(ImageTo3D.from_pretrained(name) for name in ("mini", student_only))
    again = ImageTo3D.from_pretrained("mini")
    assert gallery.model_digest(pipe) == gallery.model_digest(again) != gallery.model_digest(other)
    assert gallery.model_name(pipe) == "mini" and gallery.model_name(other) == "student_only"


# ------------------------------------------------------------------------------------------------------------ pictures


@pytest.fixture
def pictures(small, monkeypatch):
    """The module, with short turns."""
    module = small("gallery_pictures")
    monkeypatch.setattr(module, "NUM_FRAMES", 4)
    return module


def _cell(pictures, *colors):
    """Frames of one colour each."""
    frames = np.zeros((len(colors), pictures.SIZE, pictures.SIZE, 3), np.uint8)
    frames[...] = np.array(colors)[:, None, None]
    return pictures.Cell(frames=frames, caption="caption")


def _color(hue, frame):
    """Tells turntables and frames apart."""
    return [60 * frame, 20 * hue, 220 - 180 * (frame == 3)]


def _rows(pictures, count):
    """Each with two turntables."""
    turns = [_cell(pictures, *(_color(hue, frame) for frame in range(4))) for hue in range(2 * count)]
    given = _cell(pictures, [0, 255, 0])
    return [pictures.Row(given=given, made=turns[2 * row : 2 * row + 2]) for row in range(count)]


def _tiles(picture):
    """Colours of the squares that are no paper, by their upper left corner."""
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    solid = (pixels.max(-1) - pixels.min(-1)) > 60
    rows, columns = (_stretches(solid.any(axis), longer_than=100) for axis in (1, 0))
    return [[pixels[y + 80, x + 80].tolist() if solid[y + 80, x + 80] else None for x, _ in columns] for y, _ in rows]


def _stretches(used, longer_than=0):
    """Beginning and end of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], used, [0]]))).reshape(-1, 2).tolist()
    return [(start, stop) for start, stop in edges if stop - start > longer_than]


def test_the_still_picture_shows_every_result_from_the_front_and_from_behind(pictures, tmp_path):
    pictures.write_still(tmp_path / "a.png", ["A", "B"], _rows(pictures, 2), title="t", notes=["n"])
    assert _tiles(Image.open(tmp_path / "a.png")) == [
        [[0, 255, 0], *(_color(hue, frame) for hue in hues for frame in (0, 2))] for hues in ((0, 1), (2, 3))
    ]


def test_the_moving_picture_turns_forward_in_two_blocks_that_are_read_downwards(pictures, tmp_path):
    pictures.write_moving(tmp_path / "a.webp", ["A", "B"], _rows(pictures, 3), title="t", notes=[])
    moving = Image.open(tmp_path / "a.webp")
    assert moving.n_frames == 4 and moving.info["loop"] == 0
    for frame in range(4):
        moving.seek(frame)
        first, second = _tiles(moving)
        rows = [[[0, 255, 0], *(_color(hue, frame) for hue in hues)] for hues in ((0, 1), (2, 3), (4, 5))]
        assert np.abs(np.array(first) - np.array(rows[0] + rows[2])).max() < 8  # lossy: 4
        assert np.abs(np.array(second[:3]) - np.array(rows[1])).max() < 8 and second[3:] == 3 * [None]


def test_a_table_has_words_around_its_cells_and_an_empty_square_where_nothing_was_made(pictures):
    cell = pictures.Cell(frames=None, caption="nothing made")
    notes = ["word " * 60, "other"]
    sheet = np.asarray(pictures.draw_table(["A"], [[cell]], title="title", notes=notes).convert("L"))
    left, right = (edge for edge in _stretches((sheet[100:180] < 250).all(0)))  # the sides of the square
    assert right[1] - left[0] == pictures.SIZE and sheet.shape[1] - right[1] == left[0]
    assert (sheet[100:180, left[1] : right[0]] == 255).all()
    words = _stretches((sheet < 160).any(1))
    assert len(words) >= 5 + 3  # title, column, caption, other and at least four lines of the long note
    assert (sheet[:, -4:] == 255).all()


def test_what_stands_beneath_an_input_is_as_short_as_its_picture(pictures, small):
    font = ImageFont.load_default(pictures._FONT)
    for item in small("gallery_list").read_gallery().inputs:
        assert font.getlength(small("gallery").input_caption(item)) <= pictures.SIZE


def test_a_file_that_stays_too_large_is_not_written(pictures, tmp_path):
    sizes = []

    def encoder(size):
        return lambda path: (sizes.append(size), path.write_bytes(bytes(size)))

    pictures._save_within(tmp_path / "a.png", 100, map(encoder, (300, 90, 10)))
    assert sizes == [300, 90] and (tmp_path / "a.png").stat().st_size == 90
    with pytest.raises(InputError, match="more than 5 bytes"):
        pictures._save_within(tmp_path / "b.png", 5, map(encoder, (300, 90)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
