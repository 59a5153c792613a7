"""The default estimator, slowed down by sleep: runs last as long on a quick machine as on a busy one."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sklearn.svm import LinearSVC


class Patient(LinearSVC):
    """``svc`` as it is by default, with a pause before every fit."""

    def __init__(self, pause_s: float = 0.03, max_iter: int = 10000, random_state: int | None = 0) -> None:
        super().__init__(max_iter=max_iter, random_state=random_state)
        self.pause_s = pause_s

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: Any = None) -> Patient:
        time.sleep(self.pause_s)
        return super().fit(X, y, sample_weight)
