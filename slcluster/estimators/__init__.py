"""The registry of estimators: a name, what it stands for, which engine computes it, and how it is scored.

An engine other than ``"sklearn"`` exists only beside its scikit-learn twin.
"""

from slcluster.estimators.allowed import named_class, offer, refuse_caches
from slcluster.estimators.description import describe, rebuild, words_of
from slcluster.estimators.engines import ENGINES, Engine, choose_engine, fast_scorers, speed_of, version_of
from slcluster.estimators.measures import RSA, Crossnobis, FunctionMeasure, Layout, Measure, SplitHalf
from slcluster.estimators.names import (
    DEFAULT_SEED,
    NAMES,
    check_parameters,
    is_classification,
    nearest,
    resolve,
    weight_argument,
)
from slcluster.estimators.scoring import check_scorers, make_scorer, score_functions
from slcluster.estimators.tables import TableScorer, split_tables

__all__ = [
    "DEFAULT_SEED",
    "ENGINES",
    "NAMES",
    "RSA",
    "Crossnobis",
    "Engine",
    "FunctionMeasure",
    "Layout",
    "Measure",
    "SplitHalf",
    "TableScorer",
    "check_parameters",
    "check_scorers",
    "choose_engine",
    "describe",
    "fast_scorers",
    "is_classification",
    "make_scorer",
    "named_class",
    "nearest",
    "offer",
    "rebuild",
    "refuse_caches",
    "resolve",
    "score_functions",
    "speed_of",
    "split_tables",
    "version_of",
    "weight_argument",
    "words_of",
]
