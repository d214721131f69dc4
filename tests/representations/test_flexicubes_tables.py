import hashlib
from collections import Counter

import torch

from mdtdist.representations.flexicubes.tables import (
    CORNERS,
    EDGES,
    case_tables,
    edge_at,
    patches,
    repair_direction,
)

# Hashes of the published tables in the form that the tests below write out.
PATCHES_SHA256 = "4c0fb5201d939d54ee516ae7b6504f9fdb8d463a4d4f7a30a8b8a327418a792f"
REPAIRS_SHA256 = "a04d65da85c8ad33ce9cb0e05cebece11a9df5c767f14a0eb4b07c9e27a571cf"


def _sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_patches_are_the_published_ones():
    rows = [f"{case}:" + "|".join(",".join(map(str, patch)) for patch in patches(case)) for case in range(256)]
    assert rows[:4] == ["0:", "1:0,3,8", "2:0,1,9", "3:1,3,8,9"]
    assert _sha256(";".join(rows)) == PATCHES_SHA256


def test_repairs_are_the_published_ones():
    found = [(case, repair_direction(case)) for case in range(256)]
    rows = [f"{case}:{x},{y},{z},{255 - case}" for case, (x, y, z) in ((c, d) for c, d in found if d is not None)]
    assert len(rows) == 36 and rows[0] == "61:1,0,0,194"
    assert _sha256(";".join(rows)) == REPAIRS_SHA256


def test_patches_partition_the_crossing_edges():
    assert Counter(len(patches(case)) for case in range(256)) == {0: 2, 1: 162, 2: 82, 3: 8, 4: 2}
    for case in range(256):
        crossing = {e for e, (p, q) in enumerate(EDGES) if (case >> p & 1) != (case >> q & 1)}
        edges = [edge for patch in patches(case) for edge in patch]
        assert len(edges) == len(crossing) and set(edges) == crossing


def test_the_replacement_joins_the_ambiguous_face_the_other_way():
    for case in range(256):
        direction = repair_direction(case)
        if direction is not None:
            axis = next(a for a in range(3) if direction[a])
            face = (axis, int(direction[axis] > 0))
            assert patches(255 - case) == patches(case, opposite=face)


def test_edges_at_a_corner_point_along_their_axis():
    for edge, (first, second) in enumerate(EDGES):
        step = [b - a for a, b in zip(CORNERS[first], CORNERS[second], strict=True)]
        axis = next(a for a in range(3) if step[a])
        assert step[axis] == (-1 if axis == 1 else 1)  # y edges run from high to low
        assert edge_at(min(first, second), axis) == edge


def test_tensors_hold_the_same_patches():
    tables = case_tables(torch.device("cpu"))
    for case in (0, 6, 61, 105, 255):
        first, count = int(tables.first_patch[case]), int(tables.num_patches[case])
        rows = range(first, first + count)
        assert tuple(tuple(tables.patch_edges[r, : tables.patch_size[r]].tolist()) for r in rows) == patches(case)
        for number, patch in enumerate(patches(case)):
            assert (tables.patch_of_edge[case, list(patch)] == number).all()
        assert int((tables.patch_of_edge[case] >= 0).sum()) == sum(map(len, patches(case)))
        assert bool(tables.needs_repair[case]) == (repair_direction(case) is not None)
    assert tables.direction[61].tolist() == [1, 0, 0] and tables.patch_edges.shape == (358, 7)


def test_tables_made_in_inference_mode_serve_gradients_later():
    case_tables.cache_clear()
    with torch.inference_mode():
        tables = case_tables(torch.device("cpu"))
    values = torch.ones(12, requires_grad=True)
    values[tables.patch_edges[0]].sum().backward()  # saves the table
    assert values.grad is not None and float(values.grad.sum()) == 7
