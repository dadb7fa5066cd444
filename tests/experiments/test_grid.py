from dataclasses import replace

import pytest

from sfnn_pyro.experiments.catalogue import choose
from sfnn_pyro.experiments.grid import Grid, GridError, Row, Run, load_grid, plan, select

HEAD = 'title = "t"\nmeasure = "negative_log_likelihood"\nunit = "nats"\n'


def grid_of(tmp_path, text):
    (tmp_path / "g.toml").write_text(HEAD + text)
    return load_grid("g", tmp_path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("epoch = 5\n[[row]]\n", "g.toml: unknown key 'epoch'"),
        ('[[row]]\nmethod = "g3"\n', "unknown key 'method'"),
        ('[[row]]\nparticles = "20"\n', "particles='20': expected int"),
        ("[[row]]\nparticles = true\n", "particles=True: expected int"),
        ("[[row]]\nrates = 0.1\n", "rates=0.1: expected"),
        ('[[row]]\nhidden = ["200"]\n', r"hidden=\['200'\]: expected a list of int"),
        ("[[row]]\nlearning_rate = 0.1\n", "'learning_rate' is not set but chosen"),
        ("[[row]]\n", "label"),
        ('[[row]]\nlabel = "a"\nnetwork = "rnn"\n', "network='rnn': choose one of sfnn"),
        ('[[row]]\nlabel = "a"\nkept = 20\n', "kept=20: give 1 to particles - 1, or 0"),
        ('[[row]]\nlabel = "a"\nkept = -1\n', "kept=-1: give 1 to particles - 1, or 0"),
        ('[[row]]\nlabel = "a"\nearly_epochs = 50\n', "early_epochs=50: give 1 to epochs - 1"),
        ('[[row]]\nlabel = "a"\nearly_epochs = 1\n', "early_particles=0, early_epochs=1: give b"),
        (
            '[[row]]\nlabel = "a"\nkept = 5\nearly_epochs = 1\nearly_particles = 5\n',
            "kept=5: give 1 to particles - 1",
        ),
        ('[[row]]\nlabel = "a"\nmore_test_particles = -1\n', "more_test_particles=-1: give at"),
        ('[[row]]\nlabel = "a"\nhidden_rate = 0\n', "hidden_rate=0.0: must be positive"),
        ('[[row]]\nlabel = "a"\nevaluate = "more"\n', "'a': evaluate='more' needs more_test"),
        ("", "holds no"),
        ("= 5", "g.toml"),
    ],
)
def test_what_a_grid_does_not_know_is_an_error(tmp_path, text, message):
    with pytest.raises(GridError, match=message):
        grid_of(tmp_path, text)


def test_defaults_at_the_top_and_overrides_in_rows(tmp_path):
    text = 'epochs = 7\nnoise = 1\n[[row]]\nlabel = "a"\n[[row]]\nlabel = "b"\nepochs = 8\n'
    rows = grid_of(tmp_path, text).rows
    assert [(row.run.epochs, row.run.noise) for row in rows] == [(7, 1.0), (8, 1.0)]


def test_unknown_experiments_are_named():
    with pytest.raises(GridError, match="no experiment 'table3': choose of theorem1"):
        choose(["table3"])
    with pytest.raises(GridError, match="beyond has no --quick version, only table1"):
        choose(["beyond"], quick=True)


def test_a_name_belongs_to_one_configuration():
    run = Run(particles=1)
    changes = {"seed": 1, "learning_rate": 0.2, "noise": 0.1, "hidden": (200,)}
    changed = [replace(run, **{name: value}) for name, value in changes.items()]
    assert len({one.name for one in [run, *changed]}) == 5
    assert Run.from_dict(run.to_dict()).name == run.name


ROW = Row("row", Run(), rates=(0.1, 0.3, 0.03), seeds=3)
GRID = Grid("g", "t", "loss", "nats", (ROW,))


def result(value):
    both = {"validation": {"loss": value}, "test": {"loss": value}}
    return {"evaluations": {"trained": both}}


def results(values, seed=0):
    return {ROW.at(rate, seed).name: result(value) for rate, value in values.items()}


def test_a_first_run_of_every_row_comes_first_and_the_cheapest_of_them():
    dear = replace(ROW, run=replace(ROW.run, particles=50))
    planned = plan([replace(GRID, rows=(dear, ROW))], {})
    assert [run.particles for run in planned] == [20, 50, 20, 20, 50, 50]
    assert [run.learning_rate for run in planned[:2]] == [0.1, 0.1]


def test_seeds_follow_once_the_rate_is_chosen_on_validation_data():
    some = results({0.1: 2.0, 0.3: 3.0})
    assert [run.learning_rate for run in plan([GRID], some)] == [0.03]
    some |= results({0.03: 4.0})
    found = select(ROW, "loss", some)
    assert found.rate == 0.1 and not found.missing
    assert [(run.learning_rate, run.seed) for run in plan([GRID], some)] == [(0.1, 1), (0.1, 2)]


@pytest.mark.parametrize(
    "values, wider",
    [
        ({0.03: 1.0, 0.1: 2.0, 0.3: 3.0}, 0.01),
        ({0.03: 3.0, 0.1: 2.0, 0.3: 1.0}, 1.0),
        ({0.03: float("inf"), 0.1: float("inf"), 0.3: float("inf")}, 0.01),
    ],
)
def test_the_search_widens_where_the_best_rate_lies_at_an_end(values, wider):
    found = select(ROW, "loss", results(values))
    assert [run.learning_rate for run in found.missing] == [wider]
    assert not found.repeats


def test_the_search_ends_at_the_end_of_the_ladder():
    values = {0.03: 4.0, 0.1: 3.0, 0.3: 2.0, 1.0: 1.0}
    found = select(ROW, "loss", results(values))
    assert found.rate == 1.0 and not found.missing and len(found.repeats) == 2


def test_a_single_rate_is_not_searched():
    row = replace(ROW, rates=(0.1,))
    assert not select(row, "loss", results({0.1: 1.0})).missing


def test_a_failed_run_is_never_chosen():
    some = results({0.1: 2.0, 0.03: 3.0}) | {ROW.at(0.3, 0).name: {"failure": "infinite"}}
    assert select(ROW, "loss", some).rate == 0.1


def test_rows_that_share_a_run_plan_it_once():
    twin = replace(ROW, label="twin")
    planned = plan([replace(GRID, rows=(ROW, twin))], {})
    assert len(planned) == len({run.name for run in planned}) == 3
