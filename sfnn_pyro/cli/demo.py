"""``sfnn demo``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sfnn_pyro.cli.complete import draw_test_completions
from sfnn_pyro.cli.display import (
    Json,
    Quiet,
    console,
    path_option,
    print_json,
    with_error,
)
from sfnn_pyro.cli.evaluate import evaluate_split
from sfnn_pyro.cli.train import check_not_diverged, train_with_progress
from sfnn_pyro.runs import RunConfig, standard_error
from sfnn_pyro.system.shell_words import command
from sfnn_pyro.training import Schedule


def demo(
    out: Annotated[
        Path, path_option("Folder to which the models and the picture are written.")
    ] = Path("demo"),
    epochs: Annotated[int, typer.Option(help="Number of passes over the training data.")] = 40,
    seed: Annotated[
        int, typer.Option(help="Seed of the weights, the order of the data and the particles.")
    ] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train on the embedded 8 x 8 digits, compare with a deterministic network, draw completions.

    Takes about half a minute on two cores. Networks that an earlier demo trained in the folder
    are not trained again.
    """
    schedule = Schedule(epochs=epochs, learning_rate=0.3, batch_size=20, seed=seed)
    configs = {
        "stochastic (G3, M = 20)": RunConfig(hidden=(60, 60), schedule=schedule),
        "deterministic": RunConfig(
            network="deterministic", hidden=(60, 60), particles=1, schedule=schedule
        ),
    }
    again = command("sfnn", "demo", "--out", out, "--epochs", epochs, "--seed", seed)
    table = Table("network", "test log-likelihood, nats per image")
    found = {}
    for name, config in configs.items():
        model, data = train_with_progress(
            config, out / config.network, quiet=quiet, resume_command=again
        )
        check_not_diverged(out / config.network, data)
        values = evaluate_split(model, config, data, "test", 100, quiet=quiet)
        table.add_row(name, with_error(values))
        found[config.network] = {
            "test_log_likelihood": values.mean().item(),
            "standard_error": standard_error(values),
        }
    picture = out / "completions.png"
    draw_test_completions(out / "sfnn", picture, rows=10, samples=10, seed=seed)
    if as_json:
        print_json({**found, "picture": str(picture)})
        return
    console.print(table)
    print(f"The lower halves of test digits, completed: {picture}")
