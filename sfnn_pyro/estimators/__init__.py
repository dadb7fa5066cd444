"""Gradient estimators of the multi-sample objective, each a Pyro ELBO."""

from sfnn_pyro.estimators.arms import ARMS
from sfnn_pyro.estimators.base import Coefficients, Estimator, Passes
from sfnn_pyro.estimators.bit_flip import BitFlip
from sfnn_pyro.estimators.disarm import DisARM
from sfnn_pyro.estimators.double_cv import DoubleCV
from sfnn_pyro.estimators.g1 import G1
from sfnn_pyro.estimators.g2 import G2
from sfnn_pyro.estimators.g3 import G3
from sfnn_pyro.estimators.g4 import G4
from sfnn_pyro.estimators.g5 import G5
from sfnn_pyro.estimators.gumbel import GumbelStraightThrough
from sfnn_pyro.estimators.gumbel_rao import GumbelRao
from sfnn_pyro.estimators.jsa import JSA
from sfnn_pyro.estimators.muprop import MuProp
from sfnn_pyro.estimators.nvil import NVIL
from sfnn_pyro.estimators.ovis import OVIS
from sfnn_pyro.estimators.psa import PSA
from sfnn_pyro.estimators.rebar import REBAR
from sfnn_pyro.estimators.reinmax import ReinMax
from sfnn_pyro.estimators.relax import RELAX
from sfnn_pyro.estimators.rloo import RLOO
from sfnn_pyro.estimators.rws import ReweightedWakeSleep
from sfnn_pyro.estimators.vimco import VIMCO
from sfnn_pyro.estimators.wrappers import (
    Chunked,
    Compiled,
    Lazy,
    LazyLoss,
    Resampled,
    WrappedEstimator,
)

ESTIMATORS: dict[str, type[Estimator]] = {
    "g1": G1,
    "g2": G2,
    "g3": G3,
    "g4": G4,
    "g5": G5,
    "vimco": VIMCO,
    "rloo": RLOO,
    "ovis": OVIS,
    "disarm": DisARM,
    "gumbel": GumbelStraightThrough,
    "reinmax": ReinMax,
    "gumbelrao": GumbelRao,
    "doublecv": DoubleCV,
    "muprop": MuProp,
    "rebar": REBAR,
    "relax": RELAX,
    "nvil": NVIL,
    "bitflip": BitFlip,
    "psa": PSA,
    "arms": ARMS,
    "jsa": JSA,
    "rws": ReweightedWakeSleep,
}
"""By the name that the command line uses."""

__all__ = [
    "ARMS",
    "ESTIMATORS",
    "G1",
    "G2",
    "G3",
    "G4",
    "G5",
    "JSA",
    "NVIL",
    "OVIS",
    "PSA",
    "REBAR",
    "RELAX",
    "RLOO",
    "VIMCO",
    "BitFlip",
    "Chunked",
    "Coefficients",
    "Compiled",
    "DisARM",
    "DoubleCV",
    "Estimator",
    "GumbelRao",
    "GumbelStraightThrough",
    "Lazy",
    "LazyLoss",
    "MuProp",
    "Passes",
    "ReinMax",
    "Resampled",
    "ReweightedWakeSleep",
    "WrappedEstimator",
]
