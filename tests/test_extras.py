"""Without the extras the core is whole, and what needs one says in one line what to install."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sfnn_pyro.system.extras import EXTRAS

BLOCKED = """
import json, sys
NAMES = set(json.loads(sys.argv[1]))

class Blocking:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        blocked = name.partition(".")[0] in NAMES
        return None if blocked else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Blocking(finder) for finder in sys.meta_path]
sys.argv[1:] = sys.argv[2:]
"""
IMPORTS = """
import importlib, pkgutil, sfnn_pyro
refused = {}
for module in pkgutil.walk_packages(sfnn_pyro.__path__, "sfnn_pyro."):
    if module.name.startswith("sfnn_pyro.cli.") or module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        refused[module.name] = str(error)
print(json.dumps(refused))
"""
USES = """
import os, tempfile
os.environ["SFNN_DATA"] = tempfile.mkdtemp()
from sfnn_pyro.data import download
from sfnn_pyro.runs.tables import read_table
from sfnn_pyro.system.figures import new_figure
from sfnn_pyro.training import Schedule
for use in (
    new_figure,
    lambda: download("mnist", mirrors=["http://127.0.0.1:9/"]),
    lambda: read_table(Schedule, {"epochs": 3}, ValueError),
):
    try:
        use()
    except ImportError as error:
        print(error)
"""
PYRO_USER = """
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI
from pyro.optim import Adam
from sfnn_pyro.estimators import VIMCO

pyro.set_rng_seed(0)
MEANS = torch.tensor([-2.0, 0.0, 2.0])
data = MEANS[torch.randint(3, (200,))] + 0.5 * torch.randn(200)

def model(data):
    scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
    with pyro.plate("data", len(data)):
        z = pyro.sample("z", dist.Categorical(torch.ones(3)))
        pyro.sample("x", dist.Normal(MEANS[z], scale), obs=data)

def guide(data):
    slope, bias = pyro.param("slope", torch.zeros(3)), pyro.param("bias", torch.zeros(3))
    with pyro.plate("data", len(data)):
        pyro.sample("z", dist.Categorical(logits=data[:, None] * slope + bias))

svi = SVI(model, guide, Adam({"lr": 0.05}), VIMCO(num_particles=5))
losses = [svi.step(data) for _ in range(200)]
print(sum(losses[-10:]) < sum(losses[:10]), 0.4 < pyro.param("scale").item() < 0.7)
"""
COMMAND = "from sfnn_pyro.cli import main; main()"
NOT_OURS = ("sklearn", "scipy", "joblib", "PIL")
"""Packages that the core must not lean on, though they may be installed."""


def without(blocked, code, *arguments):
    names = json.dumps([*blocked, *NOT_OURS])
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code, names, *arguments], capture_output=True, text=True
    )


def test_every_module_is_imported_but_those_of_the_extras():
    found = without(EXTRAS, IMPORTS)
    assert found.returncode == 0, found.stderr
    refused = {"sfnn_pyro.experiments.sweep": "a sweep needs rich: pip install 'sfnn_pyro[cli]'"}
    assert json.loads(found.stdout) == refused


def test_a_pyro_user_needs_no_extra():
    found = without(EXTRAS, PYRO_USER)
    assert found.stdout == "True True\n", found.stderr


def test_what_needs_an_extra_says_what_to_install():
    found = without(EXTRAS, USES)
    assert found.stdout.splitlines() == [
        "drawing needs matplotlib: pip install 'sfnn_pyro[plot]'",
        "downloading needs pooch: pip install 'sfnn_pyro[cli]'",
        "reading a configuration needs pydantic: pip install 'sfnn_pyro[cli]'",
    ], found.stderr


def test_the_command_line_says_what_to_install():
    found = without(EXTRAS, COMMAND, "--version")
    assert found.returncode != 0
    assert found.stderr == "sfnn: the command line needs typer: pip install 'sfnn_pyro[cli]'\n"


def test_the_command_line_needs_no_matplotlib_until_it_draws(tmp_path):
    options = ("--hidden=5", "--epochs=1", "--particles=2", "--batch-size=300")
    found = without(["matplotlib"], COMMAND, "train", "--out", str(tmp_path / "run"), *options)
    assert found.returncode == 0, found.stderr
    found = without(["matplotlib"], COMMAND, "complete", str(tmp_path / "run"))
    assert found.returncode == 2
    assert found.stderr == "sfnn: drawing needs matplotlib: pip install 'sfnn_pyro[plot]'\n"


@pytest.mark.parametrize("name", EXTRAS)
def test_every_extra_is_declared(name):
    import tomllib

    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    package = {"PIL": "pillow"}.get(name, name)
    assert any(one.startswith(package) for one in extras[EXTRAS[name]])
