"""The models and guides of Pyro's examples with our estimators, a few steps each.

The programs are imported from a checkout and trained on data made here, since their own scripts
download data and draw pictures: ``visdom``, ``wget`` and the like are replaced by empty modules.
"""

import argparse
import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock, patch

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import SVI
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal

from sfnn_pyro import estimators, guides

ROOT = Path(__file__).parent.parent.parent
NOT_NEEDED = ("visdom", "wget", "pandas", "torchvision", "lightning", "matplotlib")
PARTS = ("pytorch", "datasets", "transforms")
STEPS = 3


@dataclass
class Program:
    """A model, its guide and their arguments."""

    model: Callable
    guide: Callable
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    from_prior: str | None = None
    """Prefix of the latent sites that the guide leaves to the prior."""
    as_module: bool = False
    """Trained as a ``torch.nn.Module`` by an optimizer of PyTorch, not by ``SVI``."""


def load(folder: Path, name: str) -> ModuleType:
    """A script of the checkout as a module, its packages for pictures and downloads empty."""
    absent = [package for package in NOT_NEEDED if importlib.util.find_spec(package) is None]
    empty = {package: MagicMock() for package in absent}
    empty |= {f"{package}.{part}": MagicMock() for package in absent for part in PARTS}
    script = folder / name
    sys.path.insert(0, str(script.parent))
    spec = importlib.util.spec_from_file_location(script.stem + "_of_pyro", script)
    module = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, empty):
        spec.loader.exec_module(module)
    return module


def vae(folder: Path) -> Program:
    vae = load(folder, "vae/vae.py").VAE(z_dim=3, hidden_dim=8)
    return Program(vae.model, vae.guide, (torch.rand(5, 784).round(),))


def ss_vae(folder: Path) -> Program:
    ss_vae = load(folder, "vae/ss_vae_M2.py").SSVAE(z_dim=3, hidden_layers=[8])
    return Program(ss_vae.model, ss_vae.guide, (torch.rand(5, 784).round(),))


def ss_vae_with_labels(folder: Path) -> Program:
    program = ss_vae(folder)
    program.args += (torch.eye(10)[:5],)
    return program


def air(folder: Path) -> Program:
    air = load(folder, "air/air.py").AIR(
        num_steps=2,
        x_size=20,
        window_size=8,
        z_what_size=4,
        rnn_hidden_size=8,
        encoder_net=[8],
        decoder_net=[8],
        predict_net=[8],
        bl_predict_net=[8],
        embed_net=[8],
    )
    return Program(air.model, air.guide, (torch.rand(6, 20, 20), 3))


def dmm(folder: Path) -> Program:
    dmm = load(folder, "dmm.py").DMM(
        input_dim=6, z_dim=3, emission_dim=5, transition_dim=5, rnn_dim=5
    )
    lengths = torch.tensor([4, 3, 2])
    mask = (torch.arange(4) < lengths.unsqueeze(1)).double()
    batch = torch.rand(3, 4, 6).round() * mask.unsqueeze(-1)
    reversed_ = torch.stack(
        [torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(batch, lengths, strict=True)]
    )
    packed = torch.nn.utils.rnn.pack_padded_sequence(reversed_, lengths, batch_first=True)
    return Program(dmm.model, dmm.guide, (batch, packed, mask, lengths, 0.4))


def lda(folder: Path) -> Program:
    module = load(folder, "lda.py")
    sizes = SimpleNamespace(
        num_topics=3, num_words=7, num_docs=6, num_words_per_doc=5, layer_sizes="4"
    )
    predictor = module.make_predictor(sizes)
    data = torch.randint(7, (5, 6))

    def guide(data, args, batch_size=None):
        return module.parametrized_guide(predictor, data, args, batch_size)

    kwargs = {"args": sizes, "batch_size": 4}
    return Program(module.model, guide, (data,), kwargs, from_prior="word_topics")


def mixed_hmm(folder: Path) -> Program:
    module = load(folder, "mixed_hmm/model.py")
    shape = (4, 2, 3)  # individuals, groups, time steps
    config = {
        "MISSING": 1e-6,
        "sizes": {"state": 2, "random": 2, "group": 2, "individual": 4, "timesteps": 3},
        "group": {"random": "continuous"},
        "individual": {"random": "continuous", "mask": torch.ones(4, 2).bool()},
        "timestep": {"mask": torch.ones(*shape).bool()},
        "observations": {
            "step": torch.rand(*shape) + 0.1,
            "angle": torch.rand(*shape),
            "omega": torch.rand(*shape) * 0.8 + 0.1,
        },
    }
    return Program(module.model_generic, module.guide_generic, (config,), from_prior="y_")


def capture_recapture(folder: Path) -> Program:
    module = load(folder, "capture_recapture/cjs.py")
    history = torch.tensor([[1.0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 0]])
    model = module.model_1
    exposed = poutine.block(model, expose_fn=lambda site: site["name"] in ("phi", "rho"))
    return Program(model, AutoDiagonalNormal(exposed), (history, None), from_prior="z_")


def sparse_gamma_def(folder: Path) -> Program:
    deep = load(folder, "sparse_gamma_def.py").SparseGammaDEF()
    deep.top_width, deep.mid_width, deep.bottom_width, deep.image_size = 4, 3, 2, 6
    return Program(deep.model, deep.guide, (torch.randint(5, (3, 6)).double(),))


def gmm(folder: Path) -> Program:
    """The mixture of the tutorial, in our words: its code is in a notebook."""
    del folder
    data = torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0])

    def model(data):
        weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(2)))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(data)):
            which = pyro.sample("assignment", dist.Categorical(weights))
            loc = torch.where(which == 0, locs[..., :1], locs[..., 1:])
            pyro.sample("obs", dist.Normal(loc, scale), obs=data)

    continuous = poutine.block(model, hide=["assignment"])
    return Program(model, AutoDelta(continuous), (data,), from_prior="assignment")


def svi_lightning(folder: Path) -> Program:
    pyro.settings.set(module_local_params=True)  # as the script does
    module = load(folder, "svi_lightning.py")
    model = module.Model(20)
    data = torch.randn(6), torch.randn(6)
    return Program(model, AutoNormal(model), data, as_module=True)


EXAMPLES = {
    "vae": vae,
    "ss_vae_M2, no labels": ss_vae,
    "ss_vae_M2, labels": ss_vae_with_labels,
    "air": air,
    "dmm": dmm,
    "lda": lda,
    "mixed_hmm": mixed_hmm,
    "capture_recapture": capture_recapture,
    "sparse_gamma_def": sparse_gamma_def,
    "gmm": gmm,
    "svi_lightning": svi_lightning,
}
KINDS = {"RLOO": estimators.RLOO, "VIMCO": estimators.VIMCO, "RWS": estimators.ReweightedWakeSleep}


def train(program: Program, kind: str, vectorised: bool) -> str:
    """The loss of the first and the last step, or an error in one line."""
    guide = program.guide
    if program.from_prior is not None:
        guide = guides.PartialProposal(program.model, guide)
    estimator = KINDS[kind](5, vectorize_particles=vectorised)
    if program.as_module:
        losses = train_module(estimator(program.model, guide), program.args)
    else:
        svi = SVI(program.model, guide, pyro.optim.Adam({"lr": 0.001}), estimator)
        losses = [svi.step(*program.args, **program.kwargs) for _ in range(STEPS)]
    if not all(map(math.isfinite, losses)):
        return f"not finite: {losses}"
    return f"passed: loss {losses[0]:.2f}, then {losses[-1]:.2f}"


def train_module(loss: torch.nn.Module, args: tuple) -> list[float]:
    losses = []
    loss(*args)  # makes the parameters of an autoguide
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.001)
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss(*args)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def run_example(checkout: Path, name: str, seconds: int) -> dict[str, str]:
    """Every estimator and both ways to run particles, each in a process of its own."""
    results = {}
    for kind in KINDS:
        for particles in ("vectorised", "sequential"):
            command = [sys.executable, "-m", "tests.compatibility.examples", checkout / "examples"]
            environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            try:
                done = subprocess.run(
                    [*command, name, kind, particles],
                    cwd=ROOT,
                    env=environment,
                    timeout=seconds,
                    capture_output=True,
                    text=True,
                )
                text = done.stdout if done.returncode == 0 else done.stderr
                results[f"{kind}, {particles}"] = (text.strip().splitlines() or ["no output"])[-1]
            except subprocess.TimeoutExpired:
                results[f"{kind}, {particles}"] = f"longer than {seconds} seconds"
    return {"example": name, **results}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility.examples")
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", choices=EXAMPLES)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("particles", choices=["vectorised", "sequential"])
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(0)
    program = EXAMPLES[args.name](args.folder)
    print(train(program, args.kind, args.particles == "vectorised"))


if __name__ == "__main__":
    main()
