import numpy as np
import pytest
import torch

from mdtdist.errors import InputError
from mdtdist.render.turntable import contact_sheet, preview, turntable
from mdtdist.representations import SH_C0, Gaussians


@pytest.fixture
def red_on_the_right() -> Gaussians:
    """A red blob at +X, a dim blue one at -X."""
    return Gaussians(
        means=torch.tensor([[0.3, 0.0, 0.0], [-0.3, 0.0, 0.0]]),
        scales=torch.full((2, 3), 0.05),
        rotations=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(2, 4),
        opacities=torch.full((2,), 0.9),
        sh=(torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.0, 0.5]]]) - 0.5) / SH_C0,
    )


def test_turntable_starts_at_the_front_and_turns_counterclockwise(red_on_the_right: Gaussians) -> None:
    frames = turntable(red_on_the_right, num_frames=4, size=32, pitch=0.0)
    assert frames.shape == (4, 32, 32, 3) and frames.dtype == np.uint8
    redness = frames[..., 0].astype(int) - frames[..., 2]
    assert redness[0, 16].argmax() > 18 and redness[2, 16].argmax() < 14  # from the front, from the back
    assert redness[1].max() > 150 > 50 > redness[3].max()  # from +X red hides blue, from -X blue hides red


def test_turntable_background_and_rounding(red_on_the_right: Gaussians) -> None:
    corner = turntable(red_on_the_right, num_frames=1, size=16, background=(0.0, 0.5, 1.0))[0, 0, 0]
    assert corner.tolist() == [0, 128, 255]


def test_preview_is_close_to_the_plain_picture(red_on_the_right: Gaussians) -> None:
    plain = turntable(red_on_the_right, num_frames=1, size=32, pitch=0.3)[0]
    picture = preview(red_on_the_right, 32, yaw=-np.pi / 2, pitch=0.3)
    assert picture.shape == plain.shape and picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - plain).mean() < 1.5


def test_contact_sheet_runs_row_by_row() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    sheet = contact_sheet(images, 3)
    assert sheet.shape == (4, 9, 3)
    assert sheet[::2, ::3, 0].tolist() == [[0, 1, 2], [3, 4, 255]]
    assert (sheet[:2, 3:6] == 1).all()


def test_contact_sheet_without_images_is_refused() -> None:
    with pytest.raises(InputError, match="0 images"):
        contact_sheet([], 3)
