"""``recipes/toy``: all methods on a checkerboard, in a budget of a few steps; and the parts it is made of."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from mdtdist.flow import EulerSampler
from mdtdist.objectives import OBJECTIVES

TOY = Path(__file__).parents[2] / "recipes" / "toy"


@pytest.fixture
def toy(monkeypatch):
    """Imports a module of the recipe."""
    monkeypatch.syspath_prepend(str(TOY))
    return importlib.import_module


def test_quick_run_writes_a_row_and_a_panel_for_every_method(tmp_path):
    command = [sys.executable, TOY / "run.py", "--out", tmp_path, "--quick", "--processes", "1", "--seeds", "2"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    page = (tmp_path / "toy.md").read_text()
    for name, objective in OBJECTIVES.items():
        for label in [name, *(f"{name} ({variant})" for variant in objective.variants)]:
            assert f"\n| {label} | " in page
    for name in ("data", "teacher, 1 step", "teacher, 2 steps", "teacher, 64 steps"):
        assert f"\n| *{name}* | " in page
    assert "nan" not in page
    picture = Image.open(tmp_path / "toy.png")
    assert picture.width > 600 and picture.height > 600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.md", "toy.png"]


def test_data_fill_the_black_squares_of_both_classes(toy):
    board = toy("board")
    x, classes = board.sample_board(4000, torch.Generator().manual_seed(0))
    assert board.is_on_board(x).all() and torch.equal(classes, (x[:, 1] > 0).long())
    squares = torch.floor(x / board.SIDE + 2).long()
    _, counts = squares.unique(dim=0, return_counts=True)
    assert len(counts) == 8 and counts.min() > 400
    assert x.std(0).sub(1).abs().max() < 0.1
    shifted = x + torch.tensor([board.SIDE, 0.0])
    assert not board.is_on_board(shifted).any()


def _network(board, runs, seed=0):
    network = board.Network(torch.Generator().manual_seed(seed))
    return network.repeated(runs)


def _batch(board, num):
    generator = torch.Generator().manual_seed(1)
    x, classes = board.sample_board(num, generator)
    return x, torch.rand(num, generator=generator), board.one_hot(classes)


def test_student_starts_as_its_teacher_in_every_run(toy):
    board = toy("board")
    x, t, cond = _batch(board, 12)
    expected = board.Network(torch.Generator().manual_seed(0))(x, t, cond)
    student = _network(board, 3)
    assert torch.allclose(student(x, t, cond), expected, atol=1e-6)
    assert torch.allclose(student(x, t, cond, r=0 * t, w=t), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["network", "discriminator"])
def test_runs_are_independent(toy, kind):
    board = toy("board")
    network = _network(board, 3)
    if kind == "discriminator":
        network = board.Discriminator(_network(board, 1), 3, torch.Generator().manual_seed(2))
        torch.nn.init.normal_(network.out)
    x, t, cond = _batch(board, 12)
    output = network(x, t, cond)
    output[4:8].square().sum().backward()  # the second run
    for p in network.parameters():
        touched = p.grad.reshape(len(p) // 3, 3, -1).abs().sum((0, 2)) > 0
        assert touched.tolist() == [False, True, False]


def test_discriminator_has_a_head_on_each_hidden_layer(toy):
    board = toy("board")
    teacher = _network(board, 1)
    judge = board.Discriminator(teacher, 2, torch.Generator().manual_seed(2))
    torch.nn.init.normal_(judge.out)
    x, t, cond = _batch(board, 8)
    for i, features in enumerate(teacher.layers(x, t, cond)[:-1]):
        rows = slice(0, 4)  # of the first run
        expected = torch.nn.functional.silu(features[rows] @ judge.hidden[2 * i]) @ judge.out[2 * i]
        assert torch.allclose(judge(x, t, cond)[rows, i], expected[:, 0], atol=1e-5)
    assert not any(p is own for p in teacher.parameters() for own in judge.parameters())


def test_adam_is_the_library_s_for_each_run_on_its_own(toy):
    board, distil = toy("board"), toy("distil")
    x, t, cond = _batch(board, 8)
    together, rates = _network(board, 2), torch.tensor([1e-2, 3e-3])
    adam = distil.Adam(together, 2)
    for _ in range(5):
        adam.step(together(x, t, cond).square().sum() / 4, rates)
    for i in range(2):
        alone, rows = _network(board, 1), slice(4 * i, 4 * i + 4)
        reference = torch.optim.Adam(alone.parameters(), lr=rates[i].item())
        for _ in range(5):
            reference.zero_grad()
            (alone(x[rows], t[rows], cond[rows]).square().sum() / 4).backward()
            torch.nn.utils.clip_grad_norm_(alone.parameters(), 1.0)
            reference.step()
        for a, b in zip(together.parameters(), alone.parameters(), strict=True):
            assert torch.allclose(a[i], b[0], atol=1e-5)


def test_energy_distance_is_zero_for_the_same_law_and_known_for_two_points(toy):
    measure = toy("measure")
    a, b = torch.randn(2, 2000, 2, generator=torch.Generator().manual_seed(0))
    assert abs(measure.energy_distance(a, b)) < 5e-3
    assert measure.energy_distance(a, b + 1) > 0.1
    # 2 * 5 - 0 - 0
    assert measure.energy_distance(torch.zeros(3, 2), torch.tensor([[3.0, 4.0]] * 4)) == pytest.approx(10, abs=1e-4)


def test_every_run_is_sampled_from_the_noise_of_the_exam(toy):
    board, measure = toy("board"), toy("measure")
    exam = measure.make_exam(_network(board, 1), 16, seed=0)
    network = _network(board, 3)
    with torch.no_grad():
        network.biases[-1][1] += 1.0  # of the second run
    samples = measure.draw_samples(network, exam, EulerSampler(steps=1))
    alone = measure.draw_samples(_network(board, 1), exam, EulerSampler(steps=1))[0]
    assert torch.allclose(samples, torch.stack([alone, alone - 1, alone]), atol=1e-5)
    assert exam.cond.sum(0).tolist() == [8, 8] and board.is_on_board(exam.data).all()
    assert torch.equal(exam.data[:, 1] > 0, exam.cond[:, 1] == 1)


def test_equal_compute_is_spent_on_every_method(toy):
    board, distil = toy("board"), toy("distil")
    plan = distil.Plan(budget=90, batch_size=4, learning_rates=(1e-3,), seeds=1)
    teacher = board.Network(torch.Generator().manual_seed(0)).requires_grad_(False)
    for row in distil.make_rows():
        if row.name in ("mdt", "trajectory", "dmd", "guidance"):
            outcome = distil.distil(row, teacher, plan, seed=0)
            stored = 16 * (90 // 4 // 16 + 1) if row.method == "trajectory" else 0
            spent = outcome.steps * outcome.forwards + stored
            assert 90 - outcome.forwards < spent <= 90, row.name
            assert outcome.forwards == {"mdt": 11, "trajectory": 3, "dmd": 25, "guidance": 5}[row.name]
