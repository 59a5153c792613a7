"""How near an engine comes to what the processor can do: useful arithmetic a second, and what is in its way.

Useful operations are counted from formulas (a product and a sum are two), with p unknowns of a sphere, n samples,
of them t to train on in a fold and m to test on; nothing is counted for building rows, copying or searching:

* svm, primal, a fold: S (p³/3 + 2p² + 2np) + c p(p+1). S Newton steps factor, solve and decide all samples; c
  samples that enter or leave the margin update half a matrix.
* svm, dual: n(n+1)v a sphere for the inner products of v voxels, and a fold S (i³/3 + 4i² + 2ni): two right
  sides, i samples inside.
* ridge, a fold of A penalties: t p(p+1) + A (p³/3 + 2p² + 2(t+m)p + t p² + 2tp), the last two the leverages.
* lda: n p(p+1) a sphere for scatters that folds share, and a fold g p² + 2p³/3 + 2p² + 2tp + 2mp: g shared parts
  added, a factor and the trace of its inverse, class means, decisions.
* gnb: 4 m K v a fold of K classes and v voxels; and logarithms, of which none are counted.

S, c and i are counted by a Newton method in NumPy below that starts where the kernel does; it takes no short steps.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

__all__ = ["bandwidth", "bounds_of", "peak_flops"]

#: Of either peak, from where it is called the bound.
_NEAR = 0.4

#: Spheres over which operations are counted.
_COUNTED = 60


def _best_s(work: Any, repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def peak_flops(size: int = 1200) -> float:
    """Operations a second of a large float64 matrix product on one thread."""
    a = np.random.default_rng(0).standard_normal((size, size))
    out = np.empty_like(a)
    return 2 * size**3 / _best_s(lambda: np.dot(a, a, out=out))


def bandwidth(size: int = 12_000_000) -> float:
    """Bytes a second that one thread moves between memory and processor: two arrays read, one written."""
    a, b, out = np.ones(size), np.ones(size), np.empty(size)
    return 3 * 8 * size / _best_s(lambda: np.add(a, b, out=out))


def bounds_of(plan: Any, x: np.ndarray, spheres: Any, center_s: float) -> dict[str, Any]:
    """Operations and bytes of a center over what a large product and a large sum reach in this process, now.

    Bytes are what must come from memory: every voxel of a sphere once. Where neither is near its peak, time goes to
    steps that wait for each other: short rows, divisions, square roots, logarithms, branches.
    """
    flops = _flops(plan, x, spheres)
    n_bytes = float(spheres.sizes().mean()) * x.shape[1] * x.itemsize
    peak, moved = peak_flops(), bandwidth()
    of_peak, of_memory = flops / center_s / peak, n_bytes / center_s / moved
    bound = "latency"
    if max(of_peak, of_memory) >= _NEAR:
        bound = "arithmetic" if of_peak >= of_memory else "memory"
    return {
        "flops": flops,
        "gflops": flops / center_s / 1e9,
        "peak_gflops": peak / 1e9,
        "of_peak": of_peak,
        "bandwidth_gb": moved / 1e9,
        "of_bandwidth": of_memory,
        "bound": bound,
    }


def _flops(plan: Any, x: np.ndarray, spheres: Any) -> float:
    """Useful operations of a center, the mean over some."""
    chosen = np.linspace(0, len(spheres.indptr) - 2, min(_COUNTED, len(spheres.indptr) - 1)).astype(int)
    if plan.engine == "svm":
        return _svm_flops(
            plan, x, [spheres.indices[spheres.indptr[i] : spheres.indptr[i + 1]] for i in chosen]
        )
    design = plan.design
    n, k = x.shape[1], len(design.classes)
    v = spheres.sizes()[chosen].astype(float)
    total = np.zeros(len(v))
    for train, test in zip(design.folds.train, design.folds.test, strict=True):
        t, m = len(train), len(test)
        if plan.engine == "ridge_classifier":
            a = np.size(getattr(plan.estimator, "alphas", 1.0))
            each = v**3 / 3 + 2 * v**2 + 2 * (t + m) * v + t * v**2 + 2 * t * v
            total += t * v * (v + 1) + a * each
        elif plan.engine == "lda":
            parts = len(design.folds.train) - 1
            total += parts * v**2 + 2 * v**3 / 3 + 2 * v**2 + 2 * t * v + 2 * m * v
        elif plan.engine == "gnb":
            total += 4 * m * k * v
    if plan.engine == "lda":
        total += n * v * (v + 1)
    return float(total.mean())


def _svm_flops(plan: Any, x: np.ndarray, members: list[np.ndarray]) -> float:
    design = plan.design
    n_problems = 1 if len(design.classes) == 2 else len(design.classes)
    n, total = x.shape[1], 0.0
    fewest = min(map(len, design.folds.train))
    guess = np.ones((n_problems, len(design.folds.train), n), bool)
    for columns in members:
        rows = np.append(x[columns].T.astype(np.float64), np.ones((n, 1)), axis=1)
        p = rows.shape[1]
        is_dual = p > 0.6 * fewest
        gram = rows @ rows.T if is_dual else None
        total += n * (n + 1) * len(columns) if is_dual else 0
        for problem in range(n_problems):
            own = 1 if n_problems == 1 else problem
            y = np.where(design.targets == own, 1.0, -1.0)
            inside, f = np.zeros(n, bool), np.zeros(n)
            for fold, train in enumerate(design.folds.train):
                in_train = np.isin(np.arange(n), train)
                if gram is not None:
                    sizes, guess[problem, fold] = _dual_steps(
                        gram, y, in_train, guess[problem, fold] & in_train
                    )
                    total += sum(i**3 / 3 + 4 * i**2 + 2 * n * i for i in sizes)
                else:
                    steps, changes, inside, f = _primal_steps(rows, y, in_train, inside, f)
                    total += steps * (p**3 / 3 + 2 * p**2 + 2 * n * p) + changes * p * (p + 1)
    return total / len(members)


def _primal_steps(
    rows: np.ndarray, y: np.ndarray, in_train: np.ndarray, inside: np.ndarray, f: np.ndarray
) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Newton steps, and samples that entered or left the margin, from where the fold before ended (C = 1)."""
    changes = 0
    for step in range(1, 100):
        new = (y * f < 1) & in_train
        if step > 1 and np.array_equal(new, inside):
            return step - 1, changes, inside, f
        changes += min(np.count_nonzero(new != inside), np.count_nonzero(new))
        inside = new
        part = rows[inside]
        f = rows @ np.linalg.solve(np.eye(rows.shape[1]) + 2 * part.T @ part, 2 * part.T @ y[inside])
    return step, changes, inside, f


def _dual_steps(
    gram: np.ndarray, y: np.ndarray, in_train: np.ndarray, inside: np.ndarray
) -> tuple[list[int], np.ndarray]:
    """Samples inside at each Newton step, from the set of the sphere before."""
    sizes: list[int] = []
    for _ in range(100):
        sizes.append(int(inside.sum()))
        part = gram[np.ix_(inside, inside)] + 0.5 * np.eye(sizes[-1])
        f = gram[:, inside] @ np.linalg.solve(part, y[inside])
        new = (y * f < 1) & in_train
        if np.array_equal(new, inside):
            break
        inside = new
    return sizes, inside
