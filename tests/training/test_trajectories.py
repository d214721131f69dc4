"""Kept trajectories of the teacher: what they hold, when they are sampled, and that a stale one is never used."""

import logging
from dataclasses import replace

import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout, randn_like, time_grid
from mdtdist.training.latent_batches import LatentBatch
from mdtdist.training.task import Draw, step_generator
from mdtdist.training.trajectories import TrajectoryOptions, TrajectoryStore

SHAPE = (3, 2, 2, 2)


class Teacher:
    """The field ``a + b x`` with a counter of its evaluations."""

    def __init__(self, a: float = 0.5, b: float = -0.25) -> None:
        self.a, self.b, self.asked = a, b, 0

    def __call__(self, batch: LatentBatch):
        def field(x, t):
            self.asked += 1
            return self.a + self.b * x + batch.cond.mean()

        return field


def make_batch(draw: Draw, *, scale: float = 1.0, key: str = "") -> LatentBatch:
    """Conditions that tell the stored batch by its position."""
    num = draw.batch_size
    cond = torch.full((num, 1, 1), scale * (draw.position + 1))
    x_0 = torch.zeros(num, *SHAPE, dtype=torch.float64)
    return LatentBatch(x_0=x_0, cond=cond, layout=DenseLayout(num), time_scale=1.0, key=key)


def draw(position: int, *, batch_size: int = 2, **options) -> Draw:
    generator = step_generator(0, position)
    return Draw(step=position, position=position, batch_size=batch_size, generator=generator, **options)


def run(store, teacher, count, make=make_batch, **options):
    """The last states of the first draws."""
    return [store.draw(draw(i, **options), make, teacher)[1].states[-1] for i in range(count)]


OPTIONS = TrajectoryOptions(num_batches=3, steps=4, rescale_t=3.0, num_states=1)


def test_states_are_those_of_the_euler_sampler():
    store, teacher = TrajectoryStore(OPTIONS, seed=0), Teacher()
    batch, trajectory = store.draw(draw(0), make_batch, teacher)
    x, states = trajectory.states[0], []
    grid = time_grid(4, rescale_t=3.0).tolist()
    for t, t_next in zip(grid[:-1], grid[1:], strict=True):
        x = x - (t - t_next) * (0.5 - 0.25 * x + batch.cond.mean())
        states.append(x)
    assert trajectory.times == (grid[0], grid[2], grid[4]) and grid[0] == 1 and grid[4] == 0
    torch.testing.assert_close(trajectory.states[1], states[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(trajectory.states[2], states[3], rtol=0, atol=1e-12)
    assert trajectory.states[0].std() > 0.5  # the noise, not the data


@pytest.mark.parametrize("is_cached", [False, True])
def test_each_batch_is_sampled_once(is_cached, tmp_path):
    options = replace(OPTIONS, cache=tmp_path if is_cached else None)
    store, teacher = TrajectoryStore(options, seed=0), Teacher()
    first, progress = [], []
    for i in range(3):
        first += run_one(store, teacher, i)
        progress.append(store.progress)
    assert teacher.asked == 3 * 4 and progress == pytest.approx([1 / 3, 2 / 3, 1])
    second = [state for i in range(3, 6) for state in run_one(store, teacher, i)]
    assert teacher.asked == 3 * 4 and store.num_sampled == 3 and store.num_read == 0
    assert sorted(x.sum().item() for x in first) == sorted(x.sum().item() for x in second)
    assert len({x.sum().item() for x in first}) == 3


def run_one(store, teacher, position):
    return [store.draw(draw(position), make_batch, teacher)[1].states[-1]]


def test_a_later_run_finds_bitwise_what_an_earlier_one_kept(tmp_path):
    options = replace(OPTIONS, cache=tmp_path)
    before = run(TrajectoryStore(options, seed=0, teacher="a"), Teacher(), 3)
    store, teacher = TrajectoryStore(options, seed=0, teacher="a"), Teacher()
    after = run(store, teacher, 3)
    assert teacher.asked == 0 and (store.num_sampled, store.num_read) == (0, 3)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(before, after, strict=True))


def test_an_interrupted_run_samples_only_what_is_missing(tmp_path):
    options = replace(OPTIONS, cache=tmp_path)
    run(TrajectoryStore(options, seed=0), Teacher(), 2)
    teacher = Teacher()
    run(TrajectoryStore(options, seed=0), teacher, 3)
    assert teacher.asked == 4


@pytest.mark.parametrize(
    ("changes", "teacher", "make"),
    [
        ({}, "b", make_batch),
        ({"steps": 5}, "a", make_batch),
        ({"rescale_t": 1.0}, "a", make_batch),
        ({"num_states": 2}, "a", make_batch),
        ({}, "a", lambda draw: make_batch(draw, scale=1.5)),
        ({}, "a", lambda draw: make_batch(draw, key="other")),
        ({}, "a", lambda draw: replace(make_batch(draw), time_scale=2.0)),
        ({}, "a", lambda draw: replace(make_batch(draw), x_0=make_batch(draw).x_0.float())),
    ],
)
def test_a_stale_trajectory_is_never_used(changes, teacher, make, tmp_path):
    run(TrajectoryStore(replace(OPTIONS, cache=tmp_path), seed=0, teacher="a"), Teacher(), 3)
    store = TrajectoryStore(replace(OPTIONS, cache=tmp_path, **changes), seed=0, teacher=teacher)
    run(store, Teacher(), 3, make)
    assert (store.num_sampled, store.num_read) == (3, 0)


def test_precision_is_part_of_the_name(tmp_path):
    options = replace(OPTIONS, cache=tmp_path)
    run(TrajectoryStore(options, seed=0), Teacher(), 3)
    store = TrajectoryStore(options, seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        run(store, Teacher(), 3)
    assert store.num_sampled == 3


def test_voxels_are_part_of_the_name():
    store, layout = TrajectoryStore(OPTIONS, seed=0), PackedLayout((2, 1))
    coords = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4], [1, 0, 0, 0]], dtype=torch.int32)
    batch = LatentBatch(x_0=torch.zeros(3, 2), cond=torch.zeros(2, 1, 1), layout=layout, time_scale=1.0, coords=coords)
    noise = randn_like(batch.x_0, generator=step_generator(0, 0))
    moved = replace(batch, coords=coords.flip(0))
    assert store.key(batch, noise) == store.key(replace(batch, x_0=batch.x_0 + 1), noise)
    assert len({store.key(batch, noise), store.key(moved, noise), store.key(batch, noise + 1)}) == 3


def test_named_conditions_may_differ_by_rounding():
    store, noise = TrajectoryStore(OPTIONS, seed=0), torch.zeros(2, *SHAPE)
    batch = make_batch(draw(0), key="crops")
    assert store.key(batch, noise) == store.key(replace(batch, cond=batch.cond + 1e-6), noise)


@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_a_damaged_file_is_sampled_again(content, tmp_path, caplog):
    options = replace(OPTIONS, cache=tmp_path)
    before = run(TrajectoryStore(options, seed=0), Teacher(), 3)
    (victim, *_) = (tmp_path / "trajectories").iterdir()
    victim.write_bytes(content)
    store = TrajectoryStore(options, seed=0)
    with caplog.at_level(logging.WARNING):
        after = run(store, Teacher(), 3)
    assert (store.num_sampled, store.num_read) == (1, 2) and victim.name in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert {path.suffix for path in (tmp_path / "trajectories").iterdir()} == {".safetensors"}


def test_processes_share_a_cache_whatever_their_number(tmp_path):
    """Two processes with half the batch each keep what one with the same part keeps for twice the batches."""
    options, teacher = replace(OPTIONS, cache=tmp_path), Teacher()
    for shard in range(2):
        run(TrajectoryStore(options, seed=0), teacher, 3, batch_size=4, shard=shard, num_shards=2)
    assert teacher.asked == 6 * 4
    store = TrajectoryStore(replace(options, num_batches=6), seed=0)
    run(store, teacher, 6, batch_size=2)
    assert teacher.asked == 6 * 4 and store.num_read == 6


def test_shards_have_noises_of_their_own_and_their_own_samples():
    store = TrajectoryStore(OPTIONS, seed=0)
    parts = [store.draw(draw(0, batch_size=4, shard=i, num_shards=2), make_batch, Teacher()) for i in range(2)]
    assert not torch.equal(parts[0][1].states[0], parts[1][1].states[0])
    assert parts[0][0].x_0.shape[0] == 2 and store.progress == pytest.approx(1 / 3)


def test_teacher_is_asked_without_gradients(tmp_path):
    weight = torch.ones((), requires_grad=True)

    def teacher(batch):
        return lambda x, t: weight * x

    states = TrajectoryStore(OPTIONS, seed=0).draw(draw(0), make_batch, teacher)[1].states
    assert not any(state.requires_grad for state in states)
