"""Particles: running a model and its proposal, terms of their weights, plates, resampling."""

from sfnn_pyro.particles.draw import Component, MixtureTerm, Particles, draw_particles
from sfnn_pyro.particles.layout import Layout
from sfnn_pyro.particles.plate import PARTICLE_PLATE, ParticlePlate
from sfnn_pyro.particles.programs import (
    Fixed,
    SameMinibatch,
    Strategy,
    guess_plate_nesting,
    trace_program,
)
from sfnn_pyro.particles.proposals import (
    MixtureOf,
    PartialOf,
    PriorOf,
    Program,
    check_program,
    components_of,
    is_partial,
    proposal_kind,
    same_program,
)
from sfnn_pyro.particles.terms import (
    JoinedTerm,
    SiteTerm,
    Term,
    sample_sites,
    total_log_prob,
)

__all__ = [
    "PARTICLE_PLATE",
    "Component",
    "Fixed",
    "JoinedTerm",
    "Layout",
    "MixtureOf",
    "MixtureTerm",
    "PartialOf",
    "ParticlePlate",
    "Particles",
    "PriorOf",
    "Program",
    "SameMinibatch",
    "SiteTerm",
    "Strategy",
    "Term",
    "check_program",
    "components_of",
    "draw_particles",
    "guess_plate_nesting",
    "is_partial",
    "proposal_kind",
    "same_program",
    "sample_sites",
    "total_log_prob",
    "trace_program",
]
