import io
import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule

from sfnn_pyro.data import Split
from sfnn_pyro.estimators import ESTIMATORS, G3, G4
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.training import Callback, JointOptim, NonFiniteError, Schedule, Trainer, triangular
from sfnn_pyro.training.non_finite import NonFiniteSites
from tests.callbacks import OnStep, OnValidation

SCHEDULE = Schedule(epochs=2, batch_size=10, learning_rate=0.05, seed=3)


@pytest.fixture(autouse=True)
def float32():
    """Data sets are float32."""
    torch.set_default_dtype(torch.float32)


def split(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Split(*torch.rand(2, count, 4, generator=generator).round())


def trainer(estimator="g3", schedule=SCHEDULE, validation=12, train=None, **options):
    torch.manual_seed(5)
    model = SFNN([4, 3, 4])
    return Trainer(
        model,
        PriorProposal(model),
        ESTIMATORS[estimator](num_particles=4) if isinstance(estimator, str) else estimator,
        train or split(36),
        split(validation, 1),
        schedule,
        **options,
    )


def stored(state):
    """A state as a file keeps it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def bits(trained):
    parameters = [p.detach().clone() for p in trained.model.parameters()]
    return parameters, trained.history


def same_bits(a, b):
    return a[1] == b[1] and all(torch.equal(p, q) for p, q in zip(a[0], b[0], strict=True))


def test_weight_decay_is_added_to_the_gradient():
    schedule = Schedule(epochs=1, batch_size=36, learning_rate=0.5, weight_decay=0.1)
    one, other = trainer(schedule=replace(schedule, weight_decay=0.0)), trainer(schedule=schedule)
    before = [p.detach().clone() for p in one.model.parameters()]
    rate = 0.0
    for training in (one, other):  # a single step, of the same particles
        list(training.run())
        rate = training.learning_rate
    pairs = zip(before, one.model.parameters(), other.model.parameters(), strict=True)
    for start, plain, decayed in pairs:
        assert torch.allclose(plain - decayed, 0.1 * rate * start, atol=1e-7)
    assert rate > 0


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(name, marks=[] if name in ("g1", "g3") else pytest.mark.slow)
        for name in sorted(set(ESTIMATORS) - {"rws", "arms"})
    ],
)
def test_from_every_step_a_training_goes_on_to_the_same_bits(estimator):
    states = []
    whole = trainer(estimator)
    for _ in whole.run(OnStep(lambda mean: states.append(stored(whole.state_dict())))):
        states.append(stored(whole.state_dict()))
    assert len(states) == 2 * (4 + 1)
    for state in states:
        torch.rand(7)  # whatever the process did before
        again = trainer(estimator)
        again.load_state_dict(state)
        for _ in again.run():
            pass
        assert same_bits(bits(whole), bits(again))


def test_a_state_from_before_the_first_step_changes_nothing():
    state = stored(trainer().state_dict())
    torch.manual_seed(1)
    whole, again = trainer(), trainer()
    again.load_state_dict(state)
    for each in (whole, again):
        assert [epoch.epoch for epoch in each.run()] == [1, 2]
    assert same_bits(bits(whole), bits(again))


class Leave(Exception):
    pass


def test_left_during_validation_it_goes_on_to_the_same_bits():
    def leave(count):
        raise Leave

    whole, part = trainer(), trainer()
    list(whole.run())
    with pytest.raises(Leave):
        list(part.run(OnValidation(leave)))
    assert (part.steps, part.history) == (4, [])
    state = stored(part.state_dict())
    again = trainer()
    again.load_state_dict(state)
    list(again.run())
    assert same_bits(bits(whole), bits(again))


def test_the_seed_alone_decides():
    def trained(seed, before):
        torch.manual_seed(before)
        one = trainer(schedule=Schedule(epochs=1, batch_size=10, learning_rate=0.05, seed=seed))
        torch.manual_seed(before)
        pyro.param("layers.0.weight", torch.zeros(1))  # another model's
        list(one.run())
        return bits(one)

    assert same_bits(trained(3, before=1), trained(3, before=2))
    assert not same_bits(trained(3, before=1), trained(4, before=1))


def test_steps_progress_and_rates_follow_the_schedule():
    one = trainer()
    seen = []
    list(one.run(OnStep(lambda mean: seen.append((one.steps, one.progress, one.learning_rate)))))
    factor = triangular(8, 4)
    for n, (steps, progress, rate) in enumerate(seen):
        assert (steps, progress) == (n + 1, (n + 1) / 8)
        assert rate == pytest.approx(0.05 * factor(n))


@pytest.mark.parametrize(("total", "rising"), [(10, 5), (10, 2.5), (7, 3.5), (1, 0.5), (100, 1)])
def test_the_schedule_is_a_triangle(total, rising):
    factor = triangular(total, rising)
    values = [factor(step) for step in range(total)]
    assert all(0 < value <= 1 for value in values)
    peak = values.index(max(values))
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert values[0] == pytest.approx(min(0.5 / rising, (total - 0.5) / (total - rising)))


def test_every_epoch_sees_every_datapoint_once_in_another_order():
    one = trainer()
    orders = [torch.cat(one.minibatches(epoch)) for epoch in range(3)]
    for order in orders:
        assert order.sort().values.tolist() == list(range(36))
    assert not torch.equal(orders[0], orders[1]) and not torch.equal(orders[1], orders[2])
    assert [len(rows) for rows in one.minibatches(0)] == [10, 10, 10, 6]


def test_the_history_is_the_mean_over_datapoints_not_over_minibatches():
    means = []
    one = trainer()
    epoch = next(one.run(OnStep(means.append)))
    expected = (10 * sum(means[:3]) + 6 * means[3]) / 36
    assert epoch.train_log_likelihood == pytest.approx(expected)


def test_without_validation_data_the_history_says_so():
    one = trainer(validation=0)
    assert [math.isnan(epoch.validation_log_likelihood) for epoch in one.run()] == [True, True]


def test_any_elbo_of_pyro_trains():
    one = trainer(Trace_ELBO())
    assert len(list(one.run())) == 2


def test_a_state_of_another_network_is_refused():
    one, state = trainer(), trainer().state_dict()
    state["parameters"] = state["parameters"][:-1]
    with pytest.raises(ValueError, match=r"the state has parameters of shapes .*, not"):
        one.load_state_dict(state)


def test_an_estimator_refuses_a_state_it_does_not_know():
    with pytest.raises(ValueError, match="G4 keeps no state"):
        G4(2).load_state_dict({"averages": {}})


class Fragile(PyroModule):
    """A model whose site ``h2`` breaks for datapoints that have a two as input."""

    def __init__(self, broken):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(4))
        self.broken = broken

    def forward(self, x, y=None):
        with pyro.plate("data", len(x), dim=-1):
            h1 = pyro.sample("h1", dist.Bernoulli(logits=x).to_event(1))
            bad = torch.where(x[:, :1] == 2, self.broken, 0.0)
            h2 = pyro.sample(
                "h2", dist.Bernoulli(logits=h1 + self.bias + bad, validate_args=False).to_event(1)
            )
            logits = h2 if self.broken > 0 or math.isnan(self.broken) else h2 + bad
            logits = logits + self.bias
            pyro.sample("y", dist.Bernoulli(logits=logits, validate_args=False).to_event(1), obs=y)


def breaking(broken, rows, estimator):
    data = split(36)
    data.x[rows] = 2
    data.y[rows] = 1
    model = Fragile(broken)
    torch.nn.init.constant_(model.bias, 0.1)
    return Trainer(model, PriorProposal(model), estimator, data, split(4), SCHEDULE)


@pytest.mark.parametrize(
    ("broken", "sites"), [(math.nan, {"h2"}), (-math.inf, {"h2", "y"}), (-3e38, {"y"})]
)
def test_a_step_that_is_not_finite_is_named_and_not_taken(broken, sites):
    estimator = G3(2)
    estimator.max_plate_nesting = 1
    one = breaking(broken, [17, 30], estimator)
    last = []

    def on_step(mean):
        last[:] = [stored(one.state_dict())]

    with pytest.raises(NonFiniteError) as caught:
        list(one.run(OnStep(on_step)))
    report = caught.value.report
    assert set(report["sites"]) <= sites | {"y"} and report["sites"]
    for rows in report["sites"].values():
        assert set(rows) <= {17, 30} & set(report["minibatch"])
    assert report["step"] == one.steps + 1
    order = one.minibatches(0)[one.steps].tolist()
    assert report["minibatch"] == order
    message = str(caught.value)
    assert f"at step {report['step']} (epoch 1), minibatch of rows {order[0]}, " in message
    assert "\n" not in message and "try a smaller learning rate" in message
    assert all(p.isfinite().all() for p in one.model.parameters())
    if last:
        now, before = stored(one.state_dict()), last[0]
        assert torch.equal(now["moment"]["random"], before["moment"]["random"])
        for a, b in zip(now["parameters"], before["parameters"], strict=True):
            assert torch.equal(a, b)


def test_a_gradient_that_is_not_finite_is_not_taken_either():
    one = trainer()
    real = one.estimator.loss_and_grads

    def spoiled(*args):
        loss = real(*args)
        one.parameters[0].grad[0, 0] = math.inf
        return loss

    one.estimator.loss_and_grads = spoiled
    with pytest.raises(NonFiniteError, match=r"the gradient is not finite at step 1 .* only the"):
        list(one.run())
    assert one.parameters[0].grad is None


def test_a_particle_of_no_weight_is_not_at_fault():
    """-inf for some particles of a datapoint is a weight of zero, and no failure."""
    network = SFNN([1, 1, 1])
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (0.0, 0.0, 2e38, -1e38), strict=True):
            parameter.fill_(value)
    ones = torch.ones(5, 1)
    loss = G4(200).loss(network, PriorProposal(network), ones, ones)
    # Standard error sqrt(5 / 200) = 0.16: a false alarm is less likely than 1e-30.
    assert loss == pytest.approx(5 * math.log(2), abs=2)


def test_the_joint_optimizer_saves_its_state_and_refuses_what_it_does_not_hold():
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optim = JointOptim(torch.optim.SGD([a], lr=0.5, momentum=0.5))
    a.grad = torch.ones(2)
    optim([a])
    assert a.tolist() == [0.5, 0.5] and a.grad is None
    again = JointOptim(torch.optim.SGD([a], lr=0.5, momentum=0.5))
    again.set_state(optim.get_state())
    a.grad = torch.ones(2)
    again([a])
    assert a.tolist() == [-0.25, -0.25]  # the momentum went on
    with pytest.raises(ValueError, match=r"shape \(2,\) that the optimizer does not hold"):
        optim([b])


def test_a_site_outside_the_data_plate_is_at_fault_for_the_whole_minibatch():
    with NonFiniteSites(3) as found:
        pyro.sample("z", dist.Normal(math.nan, 1.0, validate_args=False), obs=torch.ones(()))
        with pyro.plate("data", 3):
            pyro.sample("h", dist.Bernoulli(0.5))
    assert {name: bad.tolist() for name, bad in found.sites.items()} == {"z": [True] * 3}


def test_data_and_estimator_may_differ_by_epoch_and_are_resumed():
    seen, states = [], []
    parts = [split(36), split(36, 7)]
    made = [ESTIMATORS["g1"](num_particles=m) for m in (3, 4)]
    make = {"train": lambda epoch: parts[epoch]}

    def note(mean):
        seen.append((whole.epoch_data is parts[0], whole.epoch_estimator.num_particles))
        states.append(stored(whole.state_dict()))

    whole = trainer(lambda epoch: made[epoch], **make)
    list(whole.run(OnStep(note)))
    assert seen == [(True, 3)] * 4 + [(False, 4)] * 4
    for state in states:
        again = trainer(lambda epoch: ESTIMATORS["g1"](num_particles=3 + epoch), **make)
        again.load_state_dict(state)
        list(again.run())
        assert same_bits(bits(whole), bits(again))


def test_any_optimizer_and_any_schedule():
    class Constant(Schedule):
        def factor(self, step, steps_per_epoch):
            return 0.5

    def adam(parameters, schedule):
        groups = [{"params": parameters[:1], "lr": 0.2}, {"params": parameters[1:]}]
        return torch.optim.Adam(groups, lr=schedule.learning_rate)

    options = {"schedule": Constant(epochs=2, batch_size=10), "make_optimizer": adam}
    states = []
    whole = trainer(**options)
    list(whole.run(OnStep(lambda mean: states.append(stored(whole.state_dict())))))
    assert [group["lr"] for group in whole.optimizer.param_groups] == [0.1, 0.05]
    again = trainer(**options)
    again.load_state_dict(states[5])
    list(again.run())
    assert same_bits(bits(whole), bits(again))


def test_a_step_of_ones_own_is_a_step_of_the_run():
    run, own = trainer(), trainer()
    next(run.run())
    own.seed_random_state()
    for rows in own.minibatches(0):
        own.step(rows)
    assert all(map(torch.equal, bits(run)[0], bits(own)[0]))


def test_callbacks_are_called_in_their_order():
    calls = []

    class Note(Callback):
        def __init__(self, name):
            self.name = name

        def on_step(self, trainer, log_likelihood):
            calls.append((self.name, trainer.steps))

        def on_validation(self, trainer, datapoints):
            calls.append((self.name, f"{datapoints} validated"))

        def on_epoch(self, trainer, epoch):
            calls.append((self.name, epoch))

    one = trainer(schedule=Schedule(epochs=1, batch_size=36))
    (epoch,) = one.run(Note("a"), Note("b"))
    called = [1, "12 validated", epoch]
    assert calls == [(name, what) for what in called for name in "ab"]


def test_a_parameter_that_is_not_trained_is_refused():
    one = trainer()
    part = Trainer(one.model, one.guide, G3(2), split(36), split(0), SCHEDULE, one.parameters[:1])
    with pytest.raises(ValueError, match="that the optimizer does not hold"):
        list(part.run())


@pytest.mark.parametrize(
    "kind", ["SGD", "Adam", "AdamW", "NAdam", "RMSprop", "Rprop", "Adagrad", "Adamax", "ASGD"]
)
def test_a_state_of_any_optimizer_is_resumed(kind):
    def make_optimizer(parameters, schedule):
        return getattr(torch.optim, kind)(parameters, lr=schedule.learning_rate)

    whole = trainer(make_optimizer=make_optimizer)
    list(whole.run())
    first = trainer(make_optimizer=make_optimizer)
    next(first.run())
    state = stored(first.state_dict())
    second = trainer(make_optimizer=make_optimizer)
    second.load_state_dict(state)
    list(second.run())
    assert same_bits(bits(whole), bits(second))


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_slots_of_another_shape_are_refused_before_anything_is_loaded(kind):
    def make_optimizer(parameters, schedule):
        return getattr(torch.optim, kind)(parameters, 0.01, fused=True, **options)

    options = {"momentum": 0.9} if kind == "SGD" else {}
    first = trainer(make_optimizer=make_optimizer)
    next(first.run())
    state = stored(first.state_dict())
    slots = state["optimizer"]["state"][1]
    name = next(name for name in slots if name != "step")
    slots[name] = torch.zeros(1)
    second = trainer(make_optimizer=make_optimizer)
    before = bits(second)
    with pytest.raises(ValueError, match=rf"optimizer.state\[1\]\['{name}'\] has shape \(1,\)"):
        second.load_state_dict(state)
    assert same_bits(before, bits(second)) and not second.optimizer.state
