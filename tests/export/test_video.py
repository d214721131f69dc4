import importlib.util

import numpy as np
import pytest
from PIL import Image

from mdtdist.errors import InputError
from mdtdist.export import video


def frames(count=5, size=32):
    """A white bar that walks from left to right on black."""
    pictures = np.zeros((count, size, size, 3), np.uint8)
    for index, picture in enumerate(pictures):
        picture[:, index * size // count : (index + 1) * size // count] = 255
    return pictures


@pytest.mark.skipif(video.video_suffix() != ".mp4", reason="needs the extra video")
def test_mp4_has_all_frames_in_order(tmp_path):
    import imageio_ffmpeg

    video.write_video(frames(), tmp_path / "a.mp4", fps=10)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    meta = next(reader)
    decoded = np.stack([np.frombuffer(frame, np.uint8).reshape(32, 32, 3) for frame in reader])
    assert meta["codec"] == "h264" and meta["pix_fmt"].startswith("yuv420p") and meta["fps"] == 10
    assert np.abs(decoded.astype(int) - frames()).mean() < 12  # lossy; observed 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_gif_has_all_frames_in_order(tmp_path):
    video.write_video(frames(), tmp_path / "a.gif", fps=10)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 5 and image.info["loop"] == 0 and image.info["duration"] == 100
        for index, frame in enumerate(frames()):
            image.seek(index)
            np.testing.assert_allclose(np.asarray(image.convert("RGB")), frame, atol=3)


def test_without_an_encoder_the_suffix_is_gif_and_mp4_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert video.video_suffix() == ".gif"
    with pytest.raises(InputError, match=r"mdtdist\[video\]"):
        video.write_video(frames(), tmp_path / "a.mp4")


def test_wrong_names_and_sizes_are_reported_before_rendering(marked_box, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "turntable", None)
    with pytest.raises(InputError, match="expected .mp4 or .gif"):
        video.write_turntable(marked_box[1], tmp_path / "a.avi")
    with pytest.raises(InputError, match="even number"):
        video.write_turntable(marked_box[1], tmp_path / "a.mp4", size=33)


def test_a_failed_encoding_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("encoder broke")

    monkeypatch.setattr(video, "_encode_gif", fail)
    with pytest.raises(RuntimeError):
        video.write_video(frames(), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_turntable_shows_the_object_once_around(marked_box, tmp_path):
    video.write_turntable(marked_box[1], tmp_path / "a.gif", num_frames=6, size=32)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 6 and image.size == (32, 32)


def test_preview_shows_top_front_and_right_upright(marked_box, tmp_path):
    video.write_preview(marked_box[1], tmp_path / "a.png", size=64)
    pixels = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    assert pixels.shape == (64, 64, 3) and (pixels[0, 0] == 255).all()
    red, green, blue = (
        np.argwhere((pixels.argmax(-1) == channel) & (np.ptp(pixels, axis=-1) > 120)).mean(0) for channel in range(3)
    )
    assert red[0] < green[0] and red[0] < blue[0]  # the top is above
    assert green[1] < blue[1]  # the front is left of the right side
