"""NumPyro's RenyiELBO, jitted, for the same network. ``optional``: import fails without it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, RenyiELBO

from benchmarks.network import LEARNING_RATE, MOMENTUM, SIZES, make_batch, make_layers


def make_programs(layers):
    """Model and guide over the same parameters.

    The guide's carry no gradient: NumPyro differentiates log q too, and the hidden
    layers' gradient would cancel.
    """

    def parameters(wrap):
        for depth, (weight, bias) in enumerate(layers, start=1):
            yield wrap(numpyro.param(f"w{depth}", weight)), wrap(numpyro.param(f"b{depth}", bias))

    def hidden(h, layers):
        for depth, (weight, bias) in enumerate(layers, start=1):
            logits = h @ weight + bias
            h = numpyro.sample(f"h{depth}", dist.Bernoulli(logits=logits).to_event(1))
        return h

    def model(x, y):
        *below, (weight, bias) = parameters(lambda p: p)
        with numpyro.plate("data", len(x)):
            h = hidden(x, below)
            numpyro.sample("y", dist.Bernoulli(logits=h @ weight + bias).to_event(1), obs=y)

    def guide(x, y):
        *below, _ = parameters(jax.lax.stop_gradient)
        with numpyro.plate("data", len(x)):
            hidden(x, below)

    return model, guide


def make_numpyro_renyi(batch: int, num_particles: int, sizes=SIZES, *, rng: str = "threefry2x32"):
    x, y = map(jnp.asarray, make_batch(batch, sizes))
    layers = jax.tree.map(jnp.asarray, make_layers(sizes))
    optimizer = numpyro.optim.Momentum(step_size=LEARNING_RATE, mass=MOMENTUM)
    svi = SVI(*make_programs(layers), optimizer, RenyiELBO(alpha=0, num_particles=num_particles))
    state = [svi.init(jax.random.key(0, impl=rng), x, y)]
    update = jax.jit(svi.update, donate_argnums=0)

    def step():
        state[0], loss = update(state[0], x, y)
        return loss.block_until_ready()

    return step
