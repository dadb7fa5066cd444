"""G3 and G5 by hand in jitted JAX. ``optional``: import fails without jax."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.network import LEARNING_RATE, MOMENTUM, SIZES, make_batch, make_layers


def _log_bernoulli(logits, value):
    return (value * logits - jax.nn.softplus(logits)).sum(-1)


def _log_mean_exp(log_w):
    return jax.nn.logsumexp(log_w, 0) - jnp.log(len(log_w))


def loss_g3(layers, x, y, uniforms):
    """``uniforms``: one (M, B, n) array of uniform draws for each hidden layer."""
    h = x
    for (weight, bias), u in zip(layers[:-1], uniforms, strict=True):
        p = jax.nn.sigmoid(h @ weight + bias)
        h = p + lax.stop_gradient((u < p).astype(p.dtype) - p)  # (M, B, n)
    weight, bias = layers[-1]
    loss = -_log_mean_exp(_log_bernoulli(h @ weight + bias, y)).sum()
    return loss, loss


def surrogate_g5(layers, x, y, uniforms):
    """A surrogate that has the gradient of eq 32, and the loss."""
    h, log_p = x, 0.0
    for (weight, bias), u in zip(layers[:-1], uniforms, strict=True):
        a = h @ weight + bias
        h = lax.stop_gradient((u < jax.nn.sigmoid(a)).astype(a.dtype))  # (M, B, n)
        log_p = log_p + _log_bernoulli(a, h)
    weight, bias = layers[-1]
    log_w = _log_bernoulli(h @ weight + bias, y)  # (M, B)
    loss = -_log_mean_exp(log_w).sum()
    coefficient = lax.stop_gradient(jax.nn.softmax(log_w, 0)) - 1 / len(log_w)
    return loss - (coefficient * log_p).sum(), loss


def _make_step(surrogate, batch: int, num_particles: int, sizes, rng: str):
    x, y = map(jnp.asarray, make_batch(batch, sizes))
    layers = jax.tree.map(jnp.asarray, make_layers(sizes))
    velocity = jax.tree.map(jnp.zeros_like, layers)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def update(layers, velocity, key, x, y):
        key, *keys = jax.random.split(key, len(sizes) - 1)
        uniforms = [
            jax.random.uniform(k, (num_particles, batch, n))
            for k, n in zip(keys, sizes[1:-1], strict=True)
        ]
        gradient, loss = jax.grad(surrogate, has_aux=True)(layers, x, y, uniforms)
        velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradient)
        layers = jax.tree.map(lambda p, v: p - LEARNING_RATE * v, layers, velocity)
        return layers, velocity, key, loss

    state = [layers, velocity, jax.random.key(0, impl=rng)]

    def step() -> np.ndarray:
        *state[:], loss = update(*state, x, y)
        return loss.block_until_ready()

    return step


def make_jax_g3(batch: int, num_particles: int, sizes=SIZES, *, rng: str = "threefry2x32"):
    return _make_step(loss_g3, batch, num_particles, sizes, rng)


def make_jax_g5(batch: int, num_particles: int, sizes=SIZES, *, rng: str = "threefry2x32"):
    return _make_step(surrogate_g5, batch, num_particles, sizes, rng)
