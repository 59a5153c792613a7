"""Estimators for runs that shall be interrupted, and the log of every fit. Importable by workers."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from tests.witness import Witness, testimony


class Slow(Witness):
    """A Witness that takes its time, and notes in a file which data it was fitted to."""

    def __init__(self, log: str = os.devnull, pause_s: float = 0.003) -> None:
        self.log = log
        self.pause_s = pause_s

    def fit(self, X: np.ndarray, y: np.ndarray) -> Slow:
        super().fit(X, y)
        note(self.log, f"{testimony(X, y, 0):08x}\n")
        time.sleep(self.pause_s)
        return self


class Failing(ClassifierMixin, BaseEstimator):
    """Fails, or takes its whole process along, in every sphere of ``n_voxels``; slow in the others.

    Until there is a file named as its log, with ``.cure``.
    """

    def __init__(
        self, n_voxels: int = 1, is_deadly: bool = False, pause_s: float = 0.0, log: str = os.devnull
    ) -> None:
        self.n_voxels = n_voxels
        self.is_deadly = is_deadly
        self.pause_s = pause_s
        self.log = log

    def fit(self, X: np.ndarray, y: np.ndarray) -> Failing:
        if X.shape[1] == self.n_voxels and not Path(f"{self.log}.cure").exists():
            if self.is_deadly:
                note(self.log, "dead\n")
                os.kill(os.getpid(), signal.SIGKILL)
            raise ArithmeticError("this sphere\nis impossible")
        time.sleep(self.pause_s)
        self.classes_ = np.unique(y)
        return self

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        return 0.5


def note(log: str, line: str) -> None:
    """One write to the end of a file: lines of several processes do not mix."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def fits(log: str | Path) -> Counter[str]:
    """How often each sphere and fold was fitted."""
    return Counter(Path(log).read_text().split())
