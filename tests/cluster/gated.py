"""An estimator that waits for a test. Importable by workers."""

from __future__ import annotations

import os
import time

import numpy as np

from tests.witness import Witness


class Gated(Witness):
    """A Witness that takes its time until a file is there."""

    def __init__(self, gate: str = os.devnull, pause_s: float = 0.15) -> None:
        self.gate = gate
        self.pause_s = pause_s

    def fit(self, X: np.ndarray, y: np.ndarray) -> Gated:
        end = time.monotonic() + self.pause_s
        while time.monotonic() < end and not os.path.exists(self.gate):
            time.sleep(0.01)
        super().fit(X, y)
        return self
