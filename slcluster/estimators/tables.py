"""Results per class beside the metrics: how many samples of each class were predicted as each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from slcluster.errors import InputError
from slcluster.kernels.scores import TABLES, count_pairs, table_values

__all__ = ["TABLES", "TableScorer", "split_tables", "table_names", "table_parts"]


def split_tables(scoring: Any) -> tuple[Any, tuple[str, ...]]:
    """A ``scoring`` argument without the tables it asks for, and these.

    Where it asks for tables alone, accuracy stands beside them.

    Raises
    ------
    InputError
        A table is asked for twice, or given as one of a user's own metrics.

    Examples
    --------
    >>> split_tables(["roc_auc", "hit_rate"])
    ('roc_auc', ('hit_rate',))
    >>> split_tables("confusion")
    ('accuracy', ('confusion',))
    """
    if isinstance(scoring, Mapping):
        if wrong := [
            str(name) for name, metric in scoring.items() if metric in TABLES and isinstance(metric, str)
        ]:
            raise InputError(
                f"scoring: {scoring[wrong[0]]!r} is a table of all classes; ask for it in a list of metrics"
            )
        return scoring, ()
    words = [scoring] if isinstance(scoring, str) else scoring
    if not isinstance(words, list | tuple):
        return scoring, ()
    tables = [word for word in words if isinstance(word, str) and word in TABLES]
    if not tables:
        return scoring, ()
    if len(set(tables)) < len(tables):
        raise InputError(f"scoring asks for {tables[0]!r} twice; once is enough")
    metrics = [word for word in words if not (isinstance(word, str) and word in TABLES)]
    plain = metrics if len(metrics) > 1 else metrics[0] if metrics else "accuracy"
    return plain, tuple(name for name in TABLES if name in tables)


def table_parts(tables: tuple[str, ...], n_classes: int) -> dict[str, slice]:
    """Where each table lies among the values of all, in the order of :func:`slcluster.kernels.scores.table_values`.

    Examples
    --------
    >>> table_parts(("hit_rate", "confusion"), 2)
    {'hit_rate': slice(0, 2, None), 'confusion': slice(2, 6, None)}
    """
    parts, start = {}, 0
    for table in tables:
        parts[table] = slice(start, start + (n_classes if table == "hit_rate" else n_classes**2))
        start = parts[table].stop
    return parts


def table_names(tables: tuple[str, ...], classes: Iterable[Any]) -> tuple[str, ...]:
    """A name for every value of the tables, in their order.

    Examples
    --------
    >>> table_names(("hit_rate", "confusion"), ["face", "house"])[1:4]
    ('hit_rate[house]', 'confusion[face,face]', 'confusion[face,house]')
    """
    names = [str(label) for label in classes]
    pairs = [f"{true},{predicted}" for true in names for predicted in names]
    return tuple(f"{table}[{at}]" for table in tables for at in (names if table == "hit_rate" else pairs))


class TableScorer(NamedTuple):
    """A scorer of metrics that also counts what was predicted as what, for the scikit-learn engine."""

    scorer: Any
    metrics: tuple[str, ...]
    tables: tuple[str, ...]
    classes: np.ndarray

    def __call__(self, fitted: Any, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
        """Every value by its name."""
        values = self.scorer(fitted, X, y)
        found = dict(values) if isinstance(values, Mapping) else {self.metrics[0]: values}
        predicted = np.asarray(fitted.predict(X))
        counts = count_pairs(self._codes(y), self._codes(predicted), len(self.classes))
        names = table_names(self.tables, self.classes)
        return found | dict(zip(names, table_values(counts, self.tables).tolist(), strict=True))

    def _codes(self, labels: np.ndarray) -> np.ndarray:
        codes = np.searchsorted(self.classes, labels)
        if (codes == len(self.classes)).any() or (self.classes[codes] != labels).any():
            raise ValueError("the estimator predicts something that is none of the classes")
        return codes
