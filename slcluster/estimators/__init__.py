"""The registry of estimators: a name, what it stands for, which engine computes it, and how it is scored.

An engine other than ``"sklearn"`` exists only beside its scikit-learn twin.
"""

from slcluster.estimators.description import describe, rebuild
from slcluster.estimators.engines import ENGINES, Engine, choose_engine, fast_scorers
from slcluster.estimators.names import DEFAULT_SEED, NAMES, is_classification, nearest, resolve
from slcluster.estimators.scoring import make_scorer, score_functions

__all__ = [
    "DEFAULT_SEED",
    "ENGINES",
    "NAMES",
    "Engine",
    "choose_engine",
    "describe",
    "fast_scorers",
    "is_classification",
    "make_scorer",
    "nearest",
    "rebuild",
    "resolve",
    "score_functions",
]
