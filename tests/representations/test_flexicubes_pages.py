import pytest
import torch

from mdtdist.representations.flexicubes.pages import PagedGrid, PointRows

RESOLUTION = 40


def _points(num=30, *, origin=0, seed=0):
    flat = torch.randperm(RESOLUTION**3, generator=torch.Generator().manual_seed(seed))[:num]
    return torch.stack([flat // RESOLUTION**2, flat // RESOLUTION % RESOLUTION, flat % RESOLUTION], dim=1) + origin


def _reachable(points):
    """All points within two steps of the given ones, each once."""
    steps = torch.arange(-2, 3)
    return (points[:, None] + torch.cartesian_prod(steps, steps, steps)).flatten(0, 1).unique(dim=0)


@pytest.mark.parametrize("origin", [0, -17, 1000])
def test_every_point_in_reach_has_its_own_address(origin):
    points = _points(origin=origin)
    grid, reachable = PagedGrid(points), _reachable(points)
    addresses = grid.addresses(reachable)
    assert len(addresses.unique()) == len(reachable)
    assert 0 <= int(addresses.min()) and int(addresses.max()) < grid.size
    assert torch.equal(grid.points(addresses).long(), reachable)


def test_memory_follows_the_points_and_not_the_grid():
    corner_to_corner = torch.tensor([[0, 0, 0], [400, 400, 400]])
    assert PagedGrid(corner_to_corner).size <= 2 * 8 * 512


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("step", [-1, 1])
def test_shifted_field_holds_the_value_of_the_neighbour(axis, step):
    points = _points()
    grid = PagedGrid(points)
    side = RESOLUTION + 10
    dense = torch.randn(side, side, side, generator=torch.Generator().manual_seed(1))
    field = torch.zeros(grid.size)
    reachable = _reachable(points)
    field[grid.addresses(reachable).long()] = dense[tuple((reachable + 4).T)]
    beside = points + step * torch.eye(3, dtype=torch.long)[axis]
    shifted = grid.shifted(field, axis, step)[grid.addresses(points).long()]
    assert torch.equal(shifted, dense[tuple((beside + 4).T)])


def test_shifting_in_from_nowhere_gives_zero():
    grid = PagedGrid(torch.tensor([[4, 4, 4]]))  # reaches from 2 to 6, one page
    assert grid.size == 512
    ones = torch.ones(512)
    for axis in range(3):
        shifted = grid.shifted(ones, axis, 1).view(8, 8, 8)
        assert (shifted.narrow(axis, 0, 7) == 1).all() and (shifted.narrow(axis, 7, 1) == 0).all()


def test_shift_has_a_gradient():
    grid = PagedGrid(torch.tensor([[0, 0, 0], [5, 0, 0]]))
    field = torch.randn(grid.size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(grid.size, dtype=torch.float64)
    (grid.shifted(field, 0, -1) * weight).sum().backward()
    assert field.grad is not None and torch.equal(field.grad, grid.shifted(weight, 0, 1))  # the adjoint


def test_rows_are_found_by_point():
    points = _points()
    table = PointRows(points)
    reachable = _reachable(points)
    rows, there = table.find(reachable)
    expected = {tuple(point): row for row, point in enumerate(points.tolist())}
    assert there.tolist() == [tuple(point) in expected for point in reachable.tolist()]
    assert rows[there].tolist() == [expected[tuple(p)] for p in reachable[there].tolist()]
    assert (rows[~there] == 0).all()


def test_no_points_have_no_addresses():
    none = torch.zeros(0, 3, dtype=torch.int32)
    grid = PagedGrid(none)
    assert grid.size == 0 and len(grid.addresses(none)) == 0 and grid.points(torch.zeros(0).int()).shape == (0, 3)
    assert len(grid.shifted(torch.zeros(0), 0, 1)) == 0
    rows, there = PointRows(none).find(none)
    assert len(rows) == len(there) == 0
