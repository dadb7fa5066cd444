"""Grids of runs as data: what to train, how to choose a learning rate, what the paper found."""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sfnn_pyro.runs.tables import check_known, read_table
from sfnn_pyro.training import Schedule

GRIDS = Path(__file__).parent / "grids"
LADDER = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""The learning rates of the paper."""

VAES = ("linear-vae", "nonlinear-vae")
NETWORKS = ("sfnn", "deterministic", "hybrid", "coins", "unit", *VAES)
PROPOSALS = ("prior", "recognition", "mixture", "encoder")
PROTOCOLS = ("fixed-prior", "centred")
_THOUSANDS = {
    "mnist": 50,
    "mnist-classification": 50,
    "fashion-mnist": 50,
    "omniglot": 23,
    "coin": 0.1,
    "olivetti": 1,
    "tfd": 4,
}
"""Of training data."""
SPLITS = ("test", "train")
PRECISIONS = ("float32", "bfloat16")


class GridError(ValueError):
    """A grid that cannot be used; the message names the file and the key."""


@dataclass(frozen=True)
class Run:
    """Everything that determines one training and its evaluation.

    Arguments:
        data: a name that ``load_dataset`` knows, or ``load_images`` for a VAE; ``"coin"`` for
            Theorem 1.
        split_by_seed: whether the seed also determines the split of the data.
        network: ``"sfnn"``; ``"deterministic"``, ``"hybrid"`` or ``"coins"`` for the paper's
            networks A, C and D; ``"unit"`` for Theorem 1; ``"linear-vae"`` or ``"nonlinear-vae"``
            for unsupervised networks, which have one hidden layer and the proposal ``"encoder"``.
        protocol: of a VAE: ``"fixed-prior"`` or ``"centred"``.
        hidden: widths of the hidden layers.
        stochastic: stochastic units in each hidden layer of C and D.
        estimator: a name in ``ESTIMATORS``.
        proposal: ``"prior"``, or the learned ``"recognition"``, ``"mixture"`` or ``"encoder"``.
        encoder: units of a learned proposal's encoder.
        insomnia: of ``ReweightedWakeSleep``.
        particles: M of the training.
        kept: how many of them are back-propagated (``Resampled``); 0 for all.
        early_epochs, early_particles: how many epochs train with another M at first.
        epochs, rising_epochs, batch_size, momentum, weight_decay, learning_rate, seed: see
            ``Schedule``.
        noise: standard deviation of Gaussian noise on the training inputs, anew each epoch.
        resample: whether the training images are binarised anew in each epoch.
        train_size: how many training data to use; 0 for all.
        gain: what the initial weights are multiplied by.
        hidden_rate: what the gradient of the hidden layers is multiplied by.
        precision: of the training's matrix products.
        compile: whether the step is recorded and compiled, see ``Compiled``: numbers are the
            same up to rounding, which in a long training leads elsewhere.
        test_particles: M of the evaluation.
        more_test_particles: M of a second evaluation; 0 for none.
    """

    data: str = "mnist"
    split_by_seed: bool = False
    network: str = "sfnn"
    protocol: str = "fixed-prior"
    hidden: tuple[int, ...] = (200, 200)
    stochastic: int = 40
    estimator: str = "g3"
    proposal: str = "prior"
    encoder: int = 200
    insomnia: float = 1.0
    particles: int = 20
    kept: int = 0
    early_epochs: int = 0
    early_particles: int = 0
    epochs: int = Schedule.epochs
    rising_epochs: float = Schedule.rising_epochs
    batch_size: int = Schedule.batch_size
    momentum: float = Schedule.momentum
    weight_decay: float = Schedule.weight_decay
    learning_rate: float = Schedule.learning_rate
    seed: int = Schedule.seed
    noise: float = 0.0
    resample: bool = False
    train_size: int = 0
    gain: float = 1.0
    hidden_rate: float = 1.0
    precision: str = "float32"
    compile: bool = False
    test_particles: int = 100
    more_test_particles: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("network", NETWORKS),
            ("proposal", PROPOSALS),
            ("precision", PRECISIONS),
            ("protocol", PROTOCOLS),
        ):
            if getattr(self, name) not in choices:
                raise GridError(
                    f"{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}"
                )
        if self.is_vae != (self.proposal == "encoder") or (self.is_vae and len(self.hidden) != 1):
            raise GridError(
                f"network={self.network!r}, proposal={self.proposal!r}, hidden={self.hidden}: a "
                "VAE has one hidden layer and the proposal 'encoder', and no other network has it"
            )
        if not 0 <= self.early_epochs < self.epochs:
            raise GridError(
                f"early_epochs={self.early_epochs}: give 1 to epochs - 1, or 0 for none"
            )
        if (self.early_particles > 0) != (self.early_epochs > 0) or self.early_particles < 0:
            raise GridError(
                f"early_particles={self.early_particles}, early_epochs={self.early_epochs}: give "
                "both, each at least 1, or neither"
            )
        if not 0 <= self.kept < min(self.particles_at(0), self.particles):
            raise GridError(f"kept={self.kept}: give 1 to particles - 1, or 0 for all")
        if not self.hidden_rate > 0:
            raise GridError(f"hidden_rate={self.hidden_rate}: must be positive")
        if self.more_test_particles < 0:
            raise GridError(
                f"more_test_particles={self.more_test_particles}: give at least 1, or 0 for none"
            )

    def changes(self) -> dict[str, Any]:
        """The values that are not the defaults."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != f.default
        }

    def particles_at(self, epoch: int) -> int:
        """M of an epoch, counted from 0."""
        return self.early_particles if epoch < self.early_epochs else self.particles

    @property
    def name(self) -> str:
        """A file name that no other configuration has; a new field with a default keeps it.

        Example:
            >>> Run(particles=1, learning_rate=0.3).name[:-8]
            'mnist-sfnn-g3-M1-r0.3-s0-'
        """
        text = json.dumps(self.changes(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        short = [self.data, self.network, self.estimator, f"M{self.particles}"]
        return "-".join([*short, f"r{self.learning_rate:g}", f"s{self.seed}", digest])

    @property
    def is_vae(self) -> bool:
        """Whether the network is an unsupervised one, with an encoder as its guide."""
        return self.network in VAES

    @property
    def cost(self) -> float:
        """Rough cost for sorting; a training with M = 1 costs more than its arithmetic alone."""
        count = self.train_size / 1000 or _THOUSANDS.get(self.data, 1)
        if self.is_vae:  # DisARM with one pair is no cheaper than others with two samples
            return self.epochs * count * 8 * 200
        return self.epochs * count * (6 + self.particles) * sum(self.hidden)

    def to_dict(self) -> dict[str, Any]:
        """All values, as JSON has them."""
        return {**asdict(self), "hidden": list(self.hidden)}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> "Run":
        """Reads what ``to_dict`` wrote; an unknown key or another type is an error.

        Example:
            >>> Run.from_dict({"particle": 1})
            Traceback (most recent call last):
                ...
            sfnn_pyro.experiments.grid.GridError: unknown key 'particle'; known: data, ...
        """
        return read_table(Run, raw, GridError)


@dataclass(frozen=True)
class Row:
    """A cell of a table: a configuration whose learning rate is chosen and which is repeated.

    Arguments:
        label: of the row.
        run: the configuration, but for learning rate and seed.
        rates: learning rates to try, the likeliest first. Of more than one, the best on
            validation data is chosen, and neighbours are tried while it lies at an end.
        seeds: how many runs with the chosen rate.
        evaluate: ``"trained"``, or ``"stochastic"`` for the weights of a deterministic network
            evaluated with stochastic units (network B), or ``"guide"`` for a likelihood estimated
            with particles of the learned proposal, or ``"more"`` for one with
            ``more_test_particles``.
        paper: what the paper found, if anything.
        note: how the row leaves the paper's protocol.
    """

    label: str
    run: Run
    rates: tuple[float, ...] = (0.1, 0.3, 0.03)
    seeds: int = 3
    evaluate: str = "trained"
    paper: str = ""
    note: str = ""

    def at(self, rate: float, seed: int) -> Run:
        """One run of this row."""
        return replace(self.run, learning_rate=rate, seed=seed)


@dataclass(frozen=True)
class Grid:
    """The rows of a table.

    Arguments:
        name: of its file.
        title: for the report.
        measure: the number that the table shows, by its name in an evaluation.
        unit: of the measure.
        rows: in the order of the table.
        note: text under the table.
        split: the data that the measure shown is of, ``"test"`` or ``"train"``.
        figure: the name in ``PLOTS`` of what is drawn from its results, if anything.
    """

    name: str
    title: str
    measure: str
    unit: str
    rows: tuple[Row, ...]
    note: str = ""
    split: str = "test"
    figure: str = ""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise GridError(f"split={self.split!r}: choose one of {', '.join(SPLITS)}")


@dataclass
class Selection:
    """What the available results show about a row.

    Arguments:
        tried: by learning rate, the validation measure of seed 0, infinite for a failed run.
        missing: runs that are still needed to choose the rate.
        rate: the best so far, or None.
        results: of the seeds at that rate.
        repeats: runs at that rate that are still missing.
    """

    tried: dict[float, float] = field(default_factory=dict)
    missing: list[Run] = field(default_factory=list)
    rate: float | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    repeats: list[Run] = field(default_factory=list)


def load_grid(name: str, folder: Path = GRIDS) -> Grid:
    """Reads a grid.

    Raises:
        GridError: there is none of this name, or it holds an unknown key or a value of another
            type.

    Example:
        >>> load_grid("table1").measure
        'negative_log_likelihood'
    """
    path = folder / f"{name}.toml"
    if not path.is_file():
        raise GridError(f"no grid {name!r}: choose one of {', '.join(grid_names(folder))}")
    try:
        return _grid(name, tomllib.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise GridError(f"{path.name}: {error}") from error


def grid_names(folder: Path = GRIDS) -> list[str]:
    """All grids.

    Example:
        >>> "table2" in grid_names()
        True
    """
    return sorted(path.stem for path in folder.glob("*.toml"))


def select(row: Row, measure: str, results: Mapping[str, dict[str, Any]]) -> Selection:
    """Chooses the learning rate of a row on validation data, as far as results allow.

    Arguments:
        row: the row.
        measure: lower is better.
        results: result files by the name of their run.
    """
    found = Selection()
    rates, best = list(row.rates), None
    for rate in rates:  # the loop may append to it
        run = row.at(rate, 0)
        if run.name not in results:
            found.missing.append(run)
            continue
        found.tried[rate] = validation_measure(results[run.name], row.evaluate, measure)
        best = min(found.tried, key=lambda rate: (found.tried[rate], rate))
        if len(row.rates) > 1 and len(found.tried) == len(rates):
            rates += _neighbours(best, rates)
    if best is not None:
        found.rate = best
        repeats = [row.at(best, seed) for seed in range(row.seeds)]
        found.results = [results[run.name] for run in repeats if run.name in results]
        if not found.missing:
            found.repeats = [run for run in repeats if run.name not in results]
    return found


def validation_measure(result: Mapping[str, Any], evaluate: str, measure: str) -> float:
    """The number that learning rates are compared by; infinite for a failed run."""
    value = measured(result, evaluate, "validation", measure)
    return float("inf") if value is None else value


def measured(result: Mapping[str, Any], evaluate: str, split: str, measure: str) -> float | None:
    """A number of an evaluation; None for a run that failed or has no such evaluation.

    Raises:
        GridError: the evaluation lacks it.
    """
    evaluation = result.get("evaluations", {}).get(evaluate)
    if evaluation is None:
        return None
    value: float | None = evaluation.get(split, {}).get(measure)
    if value is None:
        name = Run.from_dict(result["config"]).name
        raise GridError(
            f"the result {name} has no {measure} of the {split} data: use another copy, or delete "
            "it, which makes the run again"
        )
    return value


def plan(grids: Iterable[Grid], results: Mapping[str, dict[str, Any]]) -> list[Run]:
    """The runs that can be made next, in the order that fills the tables soonest.

    First one run for every cell, the cheapest first; then other learning rates; then seeds.
    """
    order: dict[str, tuple[int, float, int, Run]] = {}
    for grid in grids:
        for row in grid.rows:
            found = select(row, grid.measure, results)
            tiers = [
                (0 if not found.tried and number == 0 else 1, run)
                for number, run in enumerate(found.missing)
            ] + [(2, run) for run in found.repeats]
            for tier, run in tiers:
                key = (tier, run.cost, len(order), run)
                order[run.name] = min(order.get(run.name, key), key)
    return [key[-1] for key in sorted(order.values(), key=lambda key: key[:3])]


def _neighbours(best: float, rates: list[float]) -> list[float]:
    """The next learning rate of the ladder, where the best one lies at an end."""
    if best not in LADDER:
        return []
    position = LADDER.index(best)
    wanted: list[float] = []
    if best == min(rates):
        wanted += LADDER[max(position - 1, 0) : position]
    if best == max(rates):
        wanted += LADDER[position + 1 : position + 2]
    return wanted


def _grid(name: str, raw: dict[str, Any]) -> Grid:
    rows = raw.pop("row", None)
    if not isinstance(rows, list) or not rows:
        raise GridError("holds no [[row]]")
    head = {key: raw.pop(key) for key in _names(Grid) if key in raw}
    tables = [_row({**raw, **row}) for row in rows]
    grid = read_table(Grid, {**head, "name": name, "rows": tables}, GridError)
    for row in grid.rows:
        if row.evaluate == "more" and not row.run.more_test_particles:
            raise GridError(f"{row.label!r}: evaluate='more' needs more_test_particles")
    return grid


def _row(raw: dict[str, Any]) -> dict[str, Any]:
    """The table of a row, with that of its run inside."""
    for name in ("learning_rate", "seed"):
        if name in raw:
            raise GridError(f"{name!r} is not set but chosen: give 'rates' and 'seeds'")
    run, row = _names(Run), [name for name in _names(Row) if name != "run"]
    check_known(raw, [*run, *row], GridError)
    table = {name: value for name, value in raw.items() if name in row}
    return {**table, "run": {name: value for name, value in raw.items() if name in run}}


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]
