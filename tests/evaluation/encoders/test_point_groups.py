"""Farthest points, neighbours and group vectors against plain loops; what may and may not depend on the order."""

import numpy as np
import pytest
import torch
from torch import nn

from mdtdist.evaluation.encoders.point_groups import (
    GroupEncoder,
    farthest_points,
    group_points,
    nearest_rows,
    normalize_unit_sphere,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _cloud(*shape, seed=0):
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed))


def _loop(points, count, skip_origin):
    """The rule, one candidate after the other."""
    chosen, nearest = [0], [1e10] * len(points)
    for _ in range(count - 1):
        best, farthest = 0, -1.0
        for row, (x, y, z) in enumerate(points):
            if skip_origin and np.float32(x * x + y * y + z * z) <= np.float32(1e-3):
                continue
            gap = points[row] - points[chosen[-1]]
            nearest[row] = min(nearest[row], np.float32((gap * gap).sum()))
            if nearest[row] > farthest:
                best, farthest = row, nearest[row]
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("skip_origin", [True, False])
def test_farthest_points_follow_the_rule(skip_origin):
    points = 0.08 * _cloud(2, 90)  # many inside the excluded ball
    expected = [_loop(item.numpy(), 40, skip_origin) for item in points]
    assert farthest_points(points, 40, skip_origin=skip_origin).tolist() == expected


def test_points_near_the_origin_are_left_out_by_default():
    points = torch.tensor([[[1.0, 0, 0], [0.03, 0, 0], [0.04, 0, 0], [0.5, 0, 0]]])
    assert farthest_points(points, 3).tolist() == [[0, 2, 3]]
    assert farthest_points(points, 3, skip_origin=False).tolist() == [[0, 1, 3]]


def test_the_first_row_starts_even_at_the_origin_and_is_repeated_when_nothing_is_left():
    points = torch.tensor([[[0.0, 0, 0], [0.01, 0, 0], [0.02, 0, 0]]])
    assert farthest_points(points, 3).tolist() == [[0, 0, 0]]


def test_equally_far_points_are_taken_in_order():
    points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0]]])
    assert farthest_points(points, 4).tolist() == [[0, 1, 2, 3]]


def test_neighbours_are_the_nearest():
    points = _cloud(2, 70)
    centers = points[:, :9]
    distances = (centers[:, :, None].double() - points[:, None].double()).norm(dim=-1)
    expected = distances.argsort(-1)[..., :12].sort(-1).values
    assert torch.equal(nearest_rows(points, centers, 12).sort(-1).values, expected)


def test_groups_are_relative_in_position_and_not_in_colour():
    points, colors = 5 + _cloud(1, 50), torch.rand(1, 50, 3)
    groups = group_points(points, colors, num_groups=6, group_size=8)
    assert groups.features.shape == (1, 6, 8, 6)
    for group in range(6):
        back = groups.features[0, group, :, :3] + groups.centers[0, group]
        rows = torch.cdist(back, points[0]).argmin(1)
        torch.testing.assert_close(back, points[0, rows])
        assert torch.equal(groups.features[0, group, :, 3:], colors[0, rows])
        assert bool((groups.features[0, group, :, :3] == 0).all(-1).any())  # the centre itself


def test_unit_sphere_normalisation():
    points = 3 + 7 * _cloud(2, 100)
    normal = normalize_unit_sphere(points)
    torch.testing.assert_close(normal.mean(1), torch.zeros(2, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(normal.norm(dim=-1).amax(1), torch.ones(2))
    expected = (points[0] - points[0].mean(0)) / (points[0] - points[0].mean(0)).norm(dim=-1).max()
    torch.testing.assert_close(normal[0], expected)
    assert normalize_unit_sphere(torch.full((1, 5, 3), 0.25)).abs().max() == 0


def _encoder(**options):
    torch.manual_seed(0)
    encoder = GroupEncoder(6, 16, **options).eval()
    for norm in (encoder.first_conv[1], encoder.second_conv[1]):
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
    return encoder.requires_grad_(False)


def test_group_encoder_equals_convolutions():
    encoder, groups = _encoder(), torch.randn(2, 5, 7, 6, generator=torch.Generator().manual_seed(1))
    x = groups.flatten(0, 1).transpose(1, 2)  # [B G, C, K], as the public layout thinks of it
    f = encoder.first_conv(x)
    f = encoder.second_conv(torch.cat([f.amax(2, keepdim=True).expand_as(f), f], 1)).amax(2)
    torch.testing.assert_close(encoder(groups), f.unflatten(0, (2, 5)))


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_the_order_inside_a_group_does_not_matter(batch_statistics):
    encoder, groups = _encoder(batch_statistics=batch_statistics), torch.randn(1, 5, 7, 6)
    torch.testing.assert_close(encoder(groups[:, :, torch.randperm(7)]), encoder(groups))


def test_batch_statistics_are_those_of_training_mode_and_leave_no_trace():
    encoder, groups = _encoder(batch_statistics=True), torch.randn(1, 5, 7, 6)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    literal = _encoder().train()
    x = groups.flatten(0, 1).transpose(1, 2)
    f = literal.first_conv(x)
    f = literal.second_conv(torch.cat([f.amax(2, keepdim=True).expand_as(f), f], 1)).amax(2)
    torch.testing.assert_close(encoder(groups)[0], f)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not torch.allclose(encoder(groups), _encoder()(groups))


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_a_batch_equals_one_by_one(batch_statistics):
    encoder, groups = _encoder(batch_statistics=batch_statistics), torch.randn(3, 5, 7, 6)
    torch.testing.assert_close(encoder(groups), torch.cat([encoder(item[None]) for item in groups]))
