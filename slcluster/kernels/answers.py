"""What classifiers that score every class answer: the class of the largest score, counts, probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slcluster.errors import InputError
from slcluster.kernels.compiling import inner

__all__ = ["answer", "check_priors", "decide", "empty_answers", "first_largest", "normalise"]


def empty_answers(
    outputs: Sequence[str],
    known: Sequence[str],
    shape: tuple[int, int],
    n_folds: int,
    n_tested: int,
    n_classes: int,
) -> dict[str, np.ndarray]:
    """Arrays as for spheres that are all empty, one for each known output; those not asked for have no centers.

    Parameters
    ----------
    outputs, known : sequence of str
        What is wanted, and what the kernel can give, in the order wanted back.
    shape : (n_centers, n_permutations)
    n_folds, n_tested, n_classes : int

    Raises
    ------
    InputError
        If an output is not known.
    """
    forms = {
        "confusion": ((n_folds, n_classes, n_classes), np.int32, 0),
        "prediction": ((n_tested,), np.int64, -1),
        "decision": ((n_tested, 1 if n_classes == 2 else n_classes), np.float64, np.nan),
        "log_proba": ((n_tested, n_classes), np.float64, np.nan),
        "joint_log_proba": ((n_tested, n_classes), np.float64, np.nan),
    }
    unknown = sorted(set(outputs) - set(known))
    if unknown:
        raise InputError(f"outputs must be of {', '.join(known)}; got {', '.join(unknown)}")
    found = {}
    for name in known:
        rest, dtype, fill = forms[name]
        found[name] = np.full((shape[0] if name in outputs else 0, shape[1], *rest), fill, dtype)
    return found


def check_priors(priors: Sequence[float], n_classes: int) -> np.ndarray:
    """Probabilities of the classes as float64.

    Raises
    ------
    InputError
        If they are not ``n_classes`` numbers, none negative, that sum to 1.
    """
    given = np.asarray(priors, np.float64)
    if given.shape != (n_classes,) or not np.isclose(given.sum(), 1.0) or (given < 0).any():
        raise InputError(f"priors must be {n_classes} probabilities that sum to 1, got {priors}")
    return given


@inner
def answer(best, y, edges, center, permutation, confusion, prediction):
    """Note the classes found for all test samples, in those of the two arrays that have centers."""
    if len(prediction):
        for i in range(len(best)):
            prediction[center, permutation, i] = best[i]
    if len(confusion):
        for fold in range(len(edges) - 1):
            for i in range(edges[fold], edges[fold + 1]):
                confusion[center, permutation, fold, y[i], best[i]] += 1


@inner
def first_largest(scores, best):
    """NumPy's argmax over the classes of scores (K, n): the first NaN, or else the first of the largest."""
    n_classes, n = scores.shape
    for i in range(n):
        best[i] = 0
        for k in range(1, n_classes):
            top = scores[best[i], i]
            if not np.isnan(top) and not scores[k, i] <= top:
                best[i] = k


@inner
def decide(scores, into):
    """Decisions (n_samples, 1 or n_classes) by scores (n_classes, n_samples): of two, what the second has more."""
    for i in range(scores.shape[1]):
        if len(scores) == 2:
            into[i, 0] = scores[1, i] - scores[0, i]
        else:
            for k in range(len(scores)):
                into[i, k] = scores[k, i]


@inner
def normalise(scores, best, into):
    """Logarithms of probabilities up to a constant, (K, n), to those that sum to one, into (n, K).

    ``best`` is what :func:`first_largest` found.
    """
    n_classes, n = scores.shape
    for i in range(n):
        top, others = scores[best[i], i], 0.0
        for k in range(n_classes):
            if k != best[i]:
                others += np.exp(scores[k, i] - top)
        total = top + np.log1p(others)
        for k in range(n_classes):
            into[i, k] = scores[k, i] - total
