"""What holds for every method: the general tests run on all that is registered, for each network that is trained."""

from dataclasses import replace

import pytest
import torch

from mdtdist.flow import DenseLayout, PackedLayout
from mdtdist.objectives import OBJECTIVES, Cost, Fields, MethodConfig
from tests.objectives.cases import (
    CASES,
    CHANNELS,
    TURNS,
    Case,
    Counter,
    Tape,
    ToyNetwork,
    make_latents,
    make_networks,
    map_latents,
)

LENGTHS = (2, 5, 1, 4)
PACKED = PackedLayout(LENGTHS)
SHAPE = (12, CHANNELS)
# A network that a method needs, and how a message may call it.
CALLED = {
    "target": "target|slow average",
    "fake": "fake",
    "discriminator": "discriminator",
    "trajectory": "trajector|states",
}

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_turn = pytest.mark.parametrize(("case", "network"), TURNS, ids=[f"{c}-{n}" for c, n in TURNS])


def run(case, network, *, layout=PACKED, shape=SHAPE, seed=0, latents=None):
    """The result of one loss with toy networks."""
    latents = latents or make_latents(case, layout, shape)
    return case.run(network, Fields(**make_networks(case, layout)), latents, seed=seed)


def values_of(result):
    """All that a loss reports, detached."""
    return {name: value.detach() for name, value in vars(result).items()}


def assert_same(a, b, *, rtol=1e-9, atol=1e-11):
    """The same reports; a method that takes its distances in float32 is held to that."""
    assert a.keys() == b.keys()
    if a["loss"].dtype == torch.float32:
        rtol, atol = max(rtol, 1e-5), max(atol, 1e-6)
    for name in a:
        assert torch.allclose(a[name].double(), b[name].double(), rtol=rtol, atol=atol), (name, a[name], b[name])


def test_every_method_has_a_case():
    assert {case.method for case in CASES} == set(OBJECTIVES)
    assert len({str(case) for case in CASES}) == len(CASES)


@each_case
def test_config_states_needs_and_cost(case):
    assert isinstance(case.config, MethodConfig) and isinstance(case.config.cost, Cost)
    assert case.config.needs <= {*CALLED, "interval", "guidance"}
    assert case.config.cost.student_grad >= 1
    assert "student" in case.losses


@each_turn
def test_results_are_values_per_sample(case, network):
    result = run(case, network)
    for value in values_of(result).values():
        assert value.shape == (len(LENGTHS),) and value.isfinite().all()
    assert result.loss.requires_grad and not result.t.requires_grad
    assert result.t.min() >= 0 and result.t.max() <= 1


@each_turn
def test_only_the_named_network_receives_gradients(case, network):
    networks = make_networks(case, PACKED)
    case.run(network, Fields(**networks), make_latents(case, PACKED, SHAPE)).loss.sum().backward()
    if network == "student":
        # The way to the student leads through the discriminator, whose weights the trainer holds still meanwhile.
        networks.pop("discriminator", None)
    trained = networks.pop(network)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.parameters())
    for name, other in networks.items():
        assert all(p.grad is None for p in other.parameters()), name


def measured_cost(case, *, seed):
    """The evaluations of one step, in the terms of ``Cost``."""
    cost = dict.fromkeys(vars(Cost()), 0)
    for network in case.losses:
        updates = 1 if network == "student" else getattr(case.config, "updates", 1)
        counters = {name: Counter(module) for name, module in make_networks(case, PACKED).items()}
        case.run(network, Fields(**counters), make_latents(case, PACKED, SHAPE), seed=seed)
        for name, counter in counters.items():
            with_gradients, without = _entries(name, network)
            cost[with_gradients] += updates * counter.with_gradients
            cost[without] += updates * counter.without
    return cost


def _entries(name, network):
    """Where the evaluations of a network are booked, with and without gradients, when ``network`` is trained."""
    if name == "discriminator":  # heads on features of the frozen teacher
        return "teacher_grad" if network == "student" else "features", "features"
    name = "student" if name == "target" else name
    return f"{name}_grad", name


@each_case
def test_evaluations_are_those_that_the_config_states(case):
    costs = [measured_cost(case, seed=seed) for seed in range(4)]  # those of a few-step student vary
    assert {name: max(cost[name] for cost in costs) for name in costs[0]} == vars(case.config.cost)


@each_turn
def test_dense_equals_packed_for_samples_of_one_length(case, network):
    dense = DenseLayout(4)
    latents = make_latents(case, dense, (4, 5, CHANNELS))
    flat = map_latents(latents, PackedLayout((5,) * 4), lambda x: x.flatten(0, 1))
    expected = values_of(run(case, network, layout=dense, latents=latents))
    assert_same(values_of(run(case, network, layout=flat.layout, latents=flat)), expected)


def take_sample(i):
    """Cut sample ``i`` out of anything that has a row per sample or a row per row."""

    def take(x):
        if x.shape[:1] == (len(LENGTHS),):
            return x[i : i + 1]
        return x.split(LENGTHS)[i] if x.shape[:1] == (sum(LENGTHS),) else x

    return take


@each_turn
def test_batch_equals_its_samples_one_by_one(case, network):
    latents, tape = make_latents(case, PACKED, SHAPE), Tape()
    with tape.record():
        together = values_of(run(case, network, latents=latents))
    assert tape.draws
    for i, length in enumerate(LENGTHS):
        one = map_latents(latents, PackedLayout((length,)), take_sample(i))
        with tape.replay(take_sample(i)):
            alone = values_of(run(case, network, layout=one.layout, latents=one))
        assert_same(alone, {name: value[i : i + 1] for name, value in together.items()})


@each_turn
def test_row_order_inside_a_sample_changes_nothing(case, network):
    latents, tape = make_latents(case, PACKED, SHAPE), Tape()
    order = torch.tensor([1, 0, 4, 2, 6, 3, 5, 7, 11, 9, 8, 10])

    def change(x):
        return x[order] if x.shape[:1] == (sum(LENGTHS),) else x

    with tape.record():
        expected = values_of(run(case, network, latents=latents))
    with tape.replay(change):
        assert_same(values_of(run(case, network, latents=map_latents(latents, PACKED, change))), expected)


@each_turn
def test_same_generator_gives_the_same_loss_and_another_does_not(case, network):
    state = torch.get_rng_state()
    first, again, *others = (run(case, network, seed=seed).loss for seed in (0, 0, 1, 2, 3))
    assert torch.equal(first, again) and not all(torch.allclose(first, other) for other in others)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone


@each_turn
def test_single_precision_agrees_with_double(case, network):
    latents, tape = make_latents(case, PACKED, SHAPE), Tape()
    with tape.record():
        wide = run(case, network, latents=latents)

    def narrow(x):
        return x.float() if x.dtype == torch.float64 else x

    with tape.replay(narrow):
        single = run(case, network, latents=map_latents(latents, PACKED, narrow))
    assert single.loss.dtype == torch.float32 and single.t.dtype == torch.float32
    assert wide.t.dtype == torch.float64
    # A difference over 1e-2 and the weights near t = 0 magnify rounding.
    assert_same(values_of(single), values_of(wide), rtol=2e-3, atol=1e-5)


@each_turn
def test_half_precision_latents_keep_their_times_in_single(case, network):
    latents = map_latents(make_latents(case, PACKED, SHAPE), PACKED, lambda x: x.bfloat16())
    result = run(case, network, latents=latents)
    assert result.t.dtype == torch.float32 and result.loss.isfinite().all()


@each_case
def test_missing_networks_and_trajectories_are_asked_for(case):
    for need in case.config.needs & CALLED.keys():
        refused = 0
        for network in case.losses:
            networks, latents = make_networks(case, PACKED), make_latents(case, PACKED, SHAPE)
            networks.pop(need, None)
            if need == "trajectory":
                latents = replace(latents, trajectory=None)
            try:
                case.run(network, Fields(**networks), latents)
            except ValueError as error:
                assert any(word in str(error) for word in CALLED[need].split("|")), error
                refused += 1
        assert refused, f"no loss of {case} misses {need}"


def test_counter_tells_gradients_and_forward_mode():
    layout = PackedLayout((2, 1))
    counter = Counter(ToyNetwork(layout, seed=0))
    x, t = torch.randn(3, CHANNELS, dtype=torch.float64), torch.rand(2, dtype=torch.float64)
    counter(x, t)
    with torch.no_grad():
        counter(x, t)
        torch.func.jvp(counter, (x, t), (x, t))
    assert (counter.with_gradients, counter.without) == (1, 3)


def test_toy_networks_refuse_what_they_are_not_told_of():
    layout = PackedLayout((2, 1))
    x, t = torch.zeros(3, CHANNELS, dtype=torch.float64), torch.rand(2, dtype=torch.float64)
    with pytest.raises(TypeError, match="given r"):
        ToyNetwork(layout, seed=0)(x, t, r=t)
    network = ToyNetwork(layout, seed=0, takes=frozenset({"r", "w"}))
    outputs = [network(x, t), network(x, t, r=t), network(x, t, w=1.5), network(x, t, w=2 * t)]
    assert len({tuple(output.detach().flatten().tolist()) for output in outputs}) == 4


def test_tape_gives_the_recorded_draws_back():
    tape, generator = Tape(), torch.Generator().manual_seed(0)
    with tape.record():
        first = torch.rand(4, generator=generator), torch.randint(9, (4,), generator=generator)
    with tape.replay(lambda x: x[1:]):
        assert torch.equal(torch.rand(3), first[0][1:]) and torch.equal(torch.randint(9, (3,)), first[1][1:])
    with pytest.raises(AssertionError), tape.replay(lambda x: x):
        torch.rand(4)


def test_cases_know_which_networks_are_trained():
    for case in CASES:
        assert isinstance(case, Case) and set(case.losses) <= {"student", "fake", "discriminator"}
