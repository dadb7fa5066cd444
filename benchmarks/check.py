"""Checks that implementations agree: gradients on the same draws, training curves on average."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext

import numpy as np
import torch

from benchmarks import eager
from benchmarks.network import make_batch, make_layers
from benchmarks.rivals import build
from benchmarks.timing import Call

SMALL = (12, 7, 5, 10)
MIDDLE = (40, 20, 20, 40)
CURVES = ("torch_g3", "torch_g5", "jax_g3", "jax_g5", "numpyro_renyi", "pyro_renyi")


def by_hand(layers, x, y, uniforms, estimator: str):
    """Loss and gradients from the paper's equations in float64 NumPy, no differentiation."""
    layers = [(w.astype(np.float64), b.astype(np.float64)) for w, b in layers]
    hs, ps = [np.broadcast_to(x, (len(uniforms[0]), *x.shape)).astype(np.float64)], []
    for weight, bias in layers:
        ps.append(1 / (1 + np.exp(-(hs[-1] @ weight + bias))))
        if len(ps) < len(layers):
            hs.append((uniforms[len(ps) - 1] < ps[-1]).astype(np.float64))
    log_w = np.log(np.where(y == 1, ps[-1], 1 - ps[-1])).sum(-1)  # (M, B)
    w = np.exp(log_w - log_w.max(0))
    loss = -(np.log(w.mean(0)) + log_w.max(0)).sum()
    w_bar = w / w.sum(0)
    delta = w_bar[..., None] * (y - ps[-1])  # eq 16: dChat / da, (M, B, n)
    gradients = []
    for depth in reversed(range(len(layers))):
        gradients[:0] = [np.einsum("mbi,mbj->ij", hs[depth], delta), delta.sum((0, 1))]
        if depth and estimator == "G3":  # eq 22
            delta = (delta @ layers[depth][0].T) * ps[depth - 1] * (1 - ps[depth - 1])
        elif depth:  # eq 32
            delta = (w_bar - 1 / len(w_bar))[..., None] * (hs[depth] - ps[depth - 1])
    return loss, [-g for g in gradients]


def torch_gradients(layers, x, y, uniforms, estimator: str):
    net = eager.make_net(layers)
    tensors = [torch.from_numpy(a) for a in (x, y)]
    draws = [torch.from_numpy(u) for u in uniforms]
    if estimator == "G3":
        loss = objective = eager.loss_g3(net, *tensors, draws)
    else:
        loss, objective = eager.surrogate_g5(net, *tensors, draws)
    objective.backward()
    return loss.item(), [
        p.grad.t().numpy() if p.ndim == 2 else p.grad.numpy() for p in net.parameters()
    ]


def jax_gradients(layers, x, y, uniforms, estimator: str):
    import jax

    from benchmarks import jitted

    surrogate = jitted.loss_g3 if estimator == "G3" else jitted.surrogate_g5
    gradient, loss = jax.grad(surrogate, has_aux=True)(layers, x, y, uniforms)
    return float(loss), [np.asarray(g) for g in jax.tree.leaves(gradient)]


def check_gradients(batch: int = 6, num_particles: int = 4) -> None:
    """Eager PyTorch and JAX against ``by_hand`` on the same uniform draws."""
    x, y = make_batch(batch, SMALL, seed=1)
    layers = make_layers(SMALL, seed=2)
    rng = np.random.default_rng(3)
    uniforms = [rng.random((num_particles, batch, n), dtype=np.float32) for n in SMALL[1:-1]]
    rivals = {"torch": torch_gradients}
    if importlib.util.find_spec("jax"):
        rivals["jax"] = jax_gradients
    for estimator in ("G3", "G5"):
        loss, gradients = by_hand(layers, x, y, uniforms, estimator)
        for name, compute in rivals.items():
            their_loss, theirs = compute(layers, x, y, uniforms, estimator)
            np.testing.assert_allclose(their_loss, loss, rtol=1e-5, err_msg=name)
            for ours, other in zip(gradients, theirs, strict=True):
                np.testing.assert_allclose(other, ours, rtol=1e-4, atol=1e-5, err_msg=name)
            print(f"{name} {estimator}: gradients agree")


def loss_after(call: Call, around, steps: int, last: int = 20) -> float:
    """Mean of the last few losses of a short training on the benchmark's one batch."""
    with around():
        return float(np.mean([float(call()) for _ in range(steps)][-last:]))


def check_curves(steps: int = 300, tolerance: float = 0.01) -> None:
    """RenyiELBO follows G4, whose expectation is G5's: all losses fall alike."""
    calls, around = build(CURVES, 100, 20, MIDDLE)
    losses = {
        name: loss_after(call, around.get(name, nullcontext), steps) for name, call in calls.items()
    }
    for name, loss in losses.items():
        reference = losses["torch_g3" if name.endswith("g3") else "torch_g5"]
        print(f"{name}: loss {loss:.0f} after {steps} steps")
        if abs(loss / reference - 1) > tolerance:
            raise RuntimeError(f"{name} ends at {loss:.1f}, its reference at {reference:.1f}")


def check() -> None:
    check_gradients()
    check_curves()


if __name__ == "__main__":
    check()
