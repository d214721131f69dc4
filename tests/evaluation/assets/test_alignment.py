"""Axes, boxes, and the one rotation that a whole system is given."""

import math

import numpy as np
import pytest

from mdtdist.errors import InputError
from mdtdist.evaluation.assets.alignment import (
    Alignment,
    as_matrix,
    axes_rotation,
    axis_rotations,
    choose_rotation,
    fit_cube,
    parse_up,
    turn,
)


def _shapes(count: int, *, seed: int = 0) -> list[np.ndarray]:
    """Lumps without any symmetry."""
    generator = np.random.default_rng(seed)
    corners = [generator.uniform(-0.5, 0.5, (4, 3)) for _ in range(count)]
    return [generator.dirichlet(np.ones(4), 400) @ tetrahedron for tetrahedron in corners]


def test_gltf_axes_are_those_of_the_writers() -> None:
    # (x, y, z) of the object is (x, z, -y) in a GLB, so a point of a GLB is (x, -z, y) in object space.
    np.testing.assert_array_equal(axes_rotation("+y", "+z") @ [1, 2, 3], [1, -3, 2])
    np.testing.assert_array_equal(axes_rotation("-y", "-z") @ [1, 2, 3], [1, 3, -2])
    np.testing.assert_array_equal(axes_rotation("+z", "-y"), np.eye(3))


def test_there_are_24_proper_rotations_and_four_keep_up() -> None:
    for kind, count in (("all", 24), ("yaw", 4)):
        rotations = axis_rotations(kind)  # type: ignore[arg-type]
        assert len({as_matrix(rotation) for rotation in rotations}) == count
        assert np.array_equal(rotations[0], np.eye(3))
        for rotation in rotations:
            assert np.linalg.det(rotation) == pytest.approx(1)
            np.testing.assert_array_equal(rotation @ rotation.T, np.eye(3))
    assert all(np.array_equal(rotation[2], [0, 0, 1]) for rotation in axis_rotations("yaw"))


def test_parsing_of_up() -> None:
    assert parse_up("y") == parse_up("+y") == parse_up("gltf") == parse_up("lgm") == ("+y", "+z")
    assert parse_up("-y") == parse_up("trellis") == ("-y", "-z")
    assert parse_up("z:x") == ("+z", "+x")
    with pytest.raises(InputError, match="up is 'up'"):
        parse_up("up")


def test_names_of_axes_come_back_from_the_rotation() -> None:
    for up, front in (("+y", "+z"), ("-y", "-z"), ("+z", "+x"), ("-x", "+y")):
        alignment = _alignment(axes_rotation(up, front))
        assert (alignment.up, alignment.front) == (up, front)
    half = math.sqrt(0.5)
    tilted = np.array([[1, 0, 0], [0, half, -half], [0, half, half]])
    assert _alignment(tilted).up == "(0.000, 0.707, 0.707)"


def _alignment(rotation: np.ndarray, *, offset: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Alignment:
    return Alignment(rotation=as_matrix(rotation), scale=1.0, offset=offset, how="from the format", sentence="as is")


def test_the_box_becomes_the_cube() -> None:
    low, high = np.array([1.0, 2.0, 3.0]), np.array([2.0, 6.0, 4.0])
    scale, offset = fit_cube(low, high)
    np.testing.assert_allclose(
        [scale * low + offset, scale * high + offset], [[-0.125, -0.5, -0.125], [0.125, 0.5, 0.125]]
    )
    for high in (low, np.full(3, np.inf)):
        with pytest.raises(InputError, match="longest side"):
            fit_cube(low, high)


@pytest.mark.parametrize("index", [0, 5, 11, 23])
def test_the_rotation_of_a_system_is_found(index: int) -> None:
    wanted = axis_rotations()[index]
    references = _shapes(4)
    outputs = [points[::2] @ wanted for points in references]  # wanted^-1 applied to each point
    choice = choose_rotation(outputs, references)
    np.testing.assert_array_equal(choice.rotation, wanted)
    assert choice.num_objects == 4 and len(choice.distances) == 24
    assert choice.distances[0][1] < 0.5 * choice.distances[1][1]
    assert ("no further" in choice.sentence) == (index == 0)


def test_one_rotation_serves_all_objects() -> None:
    """Three objects need a quarter turn and one does not: none is turned on its own."""
    quarter = axes_rotation("+z", "+x")
    references = _shapes(4)
    outputs = [references[0], *(points @ quarter for points in references[1:])]
    choice = choose_rotation(outputs, references, candidates="yaw")
    np.testing.assert_array_equal(choice.rotation, quarter)
    assert len(choice.distances) == 4


def test_the_distance_of_a_candidate_is_the_mean_of_both_directions() -> None:
    choice = choose_rotation([np.array([[0.0, 0.0, 0.2]])], [np.array([[0.0, 0.0, 0.2], [0.0, 0.0, 0.4]])])
    # To the references 0, to the outputs (0 + 0.2) / 2.
    assert choice.distances[0][1] == pytest.approx(0.05)


def test_turning_comes_after_the_file_was_aligned() -> None:
    quarter = axes_rotation("+z", "+x")  # (x, y, z) -> (y, -x, z)
    references = [points + [0.2, 0.1, 0.0] for points in _shapes(3)]
    choice = choose_rotation([points @ quarter for points in references], references, candidates="yaw")
    turned = turn(_alignment(axes_rotation("+y", "+z"), offset=(0.1, 0.2, 0.3)), choice)
    np.testing.assert_array_equal(turned.rotation, quarter @ axes_rotation("+y", "+z"))
    assert turned.offset == (0.2, -0.1, 0.3)
    assert turned.how == "detected" and turned.sentence.startswith("as is; turned to fit")
    assert turned.record()["up"] == "+y" and turned.record()["front"] == "+x"


def test_progress_is_told_and_counts_are_checked() -> None:
    told: list[tuple[int, int]] = []
    shapes = _shapes(70)
    choose_rotation(shapes, shapes, candidates="yaw", progress=lambda done, total: told.append((done, total)))
    assert told[0] == (1, 64) and told[-1] == (64, 64)
    with pytest.raises(InputError, match="2 outputs and 1 references"):
        choose_rotation(shapes[:2], shapes[:1])
    with pytest.raises(InputError, match="0 outputs"):
        choose_rotation([], [])
