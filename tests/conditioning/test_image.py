"""Reading, checking and cropping images."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mdtdist.conditioning.image import MAX_BYTES, crop_to_object, list_images, load_image, object_box, prepare_image
from mdtdist.errors import InputError


def object_image(box: tuple[int, int, int, int] = (20, 30, 60, 50), size: tuple[int, int] = (100, 80)) -> Image.Image:
    """A red rectangle (left, top, right, bottom) on transparent green."""
    image = Image.new("RGBA", size, (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), box)
    return image


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def test_box_follows_the_trellis_rule():
    # Columns 20..59 and rows 30..49: centre (39.5, 39.5), longest side 39, int(1.2 * 39) // 2 = 23.
    alpha = np.asarray(object_image().getchannel("A"))
    assert object_box(alpha) == (16.5, 16.5, 62.5, 62.5)


def test_box_ignores_alpha_up_to_204():
    alpha = np.asarray(object_image().getchannel("A")).copy()
    alpha[0, 0] = 204
    assert object_box(alpha) == (16.5, 16.5, 62.5, 62.5)
    alpha[0, 0] = 205
    assert object_box(alpha) != (16.5, 16.5, 62.5, 62.5)


def test_crop_centres_the_object_and_keeps_its_proportions():
    crop = crop_to_object(object_image(), size=128)
    assert crop.shape == (4, 128, 128)
    rows, columns = np.nonzero(crop[3].numpy() > 0.5)
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert width == pytest.approx(128 * 40 / 46, abs=2)
    assert height == pytest.approx(128 * 20 / 46, abs=2)
    assert abs(columns.mean() - 63.5) < 3 and abs(rows.mean() - 63.5) < 3


def test_crop_reaches_beyond_the_image_as_transparent():
    crop = crop_to_object(object_image(box=(0, 0, 60, 20)))
    assert crop[3, 0].max() == 0 and crop[3, :, 0].max() == 0
    assert crop[3, 64, 64] == 1


def test_crop_is_premultiplied_without_bleeding_of_hidden_colours():
    image = object_image()
    crop = crop_to_object(image)
    assert crop[1].max() == 0  # the green under the transparent pixels
    assert bool((crop[:3] <= crop[3:]).all())
    pixels = np.asarray(image).copy()
    pixels[30:50, 20:60, 3] = 230
    half = crop_to_object(Image.fromarray(pixels))
    torch.testing.assert_close(half[0, 64, 64], torch.tensor(230 / 255), atol=2 / 255, rtol=0)


@pytest.mark.parametrize("size", [64, 518])
def test_crop_is_that_of_trellis_bit_for_bit(size):
    """The published preprocessing, step by step, on soft alpha, odd sizes and a box that leaves the image."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (37, 53, 4), np.uint8)
    pixels[:, :30, 3] = 255
    image = Image.fromarray(pixels)
    rows, columns = np.nonzero(pixels[..., 3] > 0.8 * 255)
    centre = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    side = int(max(np.ptp(columns), np.ptp(rows)) * 1.2)
    box = (centre[0] - side // 2, centre[1] - side // 2, centre[0] + side // 2, centre[1] + side // 2)
    straight = np.array(image.crop(box).resize((size, size), Image.Resampling.LANCZOS)).astype(np.float32) / 255
    seen = (straight[:, :, :3] * straight[:, :, 3:4] * 255).astype(np.uint8)
    crop = crop_to_object(image, size=size)
    np.testing.assert_array_equal(crop[:3].permute(1, 2, 0).numpy(), seen.astype(np.float32) / 255)
    np.testing.assert_array_equal(crop[3].numpy(), straight[:, :, 3])


def test_colours_are_cut_off_and_not_rounded():
    image = Image.new("RGBA", (100, 80), (200, 0, 0, 229))
    crop = crop_to_object(image, size=32)
    assert 200 * 229 / 255 > 179.5 and round(255 * float(crop[0, 16, 16])) == 179


def test_crop_keeps_left_and_right():
    pixels = np.asarray(object_image(box=(20, 20, 61, 61))).copy()
    pixels[20:61, 20:40, :3] = (0, 0, 255)
    crop = crop_to_object(Image.fromarray(pixels))
    assert crop[2, 64, 30] == 1 and crop[0, 64, 30] == 0
    assert crop[0, 64, 100] == 1 and crop[2, 64, 100] == 0
    mirrored = crop_to_object(Image.fromarray(pixels[:, ::-1]))
    # The rule puts the object up to a pixel off centre, here 1 / 48 of the crop: observed 0.029.
    assert (mirrored - crop.flip(-1)).abs().mean() < 0.05


def test_transparency_is_used_without_warning(recwarn):
    image = load_image(encode(object_image()))
    assert not recwarn.list
    np.testing.assert_array_equal(np.asarray(image), np.asarray(object_image()))


def test_opaque_photograph_gets_a_border_colour_foreground_and_a_warning():
    rng = np.random.default_rng(0)
    shade = 200 + np.linspace(-25, 25, 160)[None, :, None] + rng.normal(0, 3, (120, 160, 3))
    y, x = np.mgrid[:120, :160]
    disc = (x - 70) ** 2 + (y - 55) ** 2 < 30**2
    shade[disc] = (90, 60, 200)
    shade[50:56, 66:72] = 200  # a highlight in the background's colour, inside the object
    with pytest.warns(UserWarning, match="no transparency"):
        image = load_image(Image.fromarray(shade.clip(0, 255).astype(np.uint8)))
    alpha = np.asarray(image.getchannel("A")) > 127
    assert (alpha != disc).mean() < 0.005


def test_modes_are_read_alike(tmp_path):
    reference = np.asarray(load_image(object_image()))
    palette = object_image().quantize(16)
    assert np.abs(np.asarray(load_image(encode(palette))).astype(int)[35, 40] - reference[35, 40]).max() <= 1
    path = tmp_path / "object.webp"
    object_image().save(path, lossless=True)
    np.testing.assert_array_equal(np.asarray(load_image(path))[35, 40], reference[35, 40])


@pytest.mark.filterwarnings("ignore:.*no transparency")
def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    grey = np.full((64, 64), 60000, np.uint16)
    grey[16:48, 16:48] = 20000
    image = load_image(encode(Image.fromarray(grey)))
    assert image.getpixel((32, 32))[0] == 20000 // 257
    assert image.getpixel((32, 32))[3] == 255 and image.getpixel((2, 2))[3] == 0


@pytest.mark.filterwarnings("ignore:.*no transparency")
def test_camera_orientation_is_applied():
    image = Image.new("RGB", (80, 60), "white")
    image.paste((200, 0, 0), (5, 5, 25, 25))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    loaded = np.asarray(load_image(stream.getvalue()).getchannel("A")) > 127
    assert loaded[45, 65] and not loaded[15, 15]


def bad_sources(folder) -> dict[str, tuple[object, str]]:
    """Case -> (source, words of the message)."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 4), np.uint8), "RGBA")
    (folder / "text.png").write_text("not an image")
    (folder / "empty.png").write_bytes(b"")
    faint = object_image()
    faint.putalpha(faint.getchannel("A").point(lambda a: a * 100 // 255))
    return {
        "text": (folder / "text.png", "not an image"),
        "empty": (folder / "empty.png", "not an image"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        "truncated png": (encode(noise)[:2000], "truncated"),
        "truncated jpeg": (encode(noise.convert("RGB"), "JPEG")[:900], "truncated"),
        "missing": (folder / "missing.png", "does not exist"),
        "folder": (folder, "is a folder"),
        "too wide": (Image.new("RGBA", (4097, 4)), "4097 x 4"),
        "too wide file": (encode(Image.new("L", (4, 5000))), "4 x 5000"),
        "too many bytes": (bytes(MAX_BYTES + 1), "at most 32 MB"),
        "transparent": (Image.new("RGBA", (64, 64), (9, 9, 9, 0)), "fully transparent"),
        "half transparent": (faint, "no pixel with alpha above"),
        "one colour": (Image.new("RGB", (64, 64), (200, 200, 200)), "no foreground"),
        "tiny object": (object_image(box=(3, 3, 6, 6)), "at least 8"),
    }


CASES = (
    "text", "empty", "postscript", "truncated png", "truncated jpeg", "missing", "folder", "too wide", "too wide file",
    "too many bytes", "transparent", "half transparent", "one colour", "tiny object",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*no transparency")
@pytest.mark.parametrize("case", CASES)
def test_bad_image_is_one_sentence(tmp_path, case):
    source, words = bad_sources(tmp_path)[case]
    with pytest.raises(InputError, match=words) as caught:
        prepare_image(source)
    assert "\n" not in str(caught.value)


def test_unknown_background_remover_is_an_input_error():
    with pytest.raises(InputError, match="'border' or 'rembg'"):
        load_image(Image.new("RGB", (32, 32)), background="magic")


def test_missing_background_remover_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rembg", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"pip install 'mdtdist\[background\]'"):
        load_image(Image.new("RGB", (32, 32)), background="rembg")


def test_background_remover_gives_the_alpha(monkeypatch):
    """The remover sees at most 1024 pixels a side, and alpha is what it says."""
    sizes = []

    def remove(image, *, session):
        sizes.append((image.size, session))
        image.putalpha(Image.new("L", image.size))
        image.paste((9, 9, 9, 255), (100, 100, 300, 200))
        return image

    monkeypatch.setattr("mdtdist.conditioning.image._background_session", lambda: "session")
    monkeypatch.setitem(sys.modules, "rembg", SimpleNamespace(remove=remove))
    image = load_image(Image.new("RGB", (2048, 900), "white"), background="rembg")
    assert sizes == [((1024, 450), "session")]
    assert np.asarray(image.getchannel("A")).sum() == 255 * 200 * 100


def test_list_images_sorts_and_filters(tmp_path):
    with pytest.raises(InputError, match="no images"):
        list_images(tmp_path)
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG"]
