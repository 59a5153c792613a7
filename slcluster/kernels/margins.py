"""The margin of a squared-hinge problem: who is inside, and how far a step may go."""

from __future__ import annotations

from slcluster.kernels.cholesky import inner

__all__ = [
    "CLIMB",
    "DESCENT",
    "EDGE",
    "LEAST_SCALE",
    "MAX_STEPS",
    "PATIENCE",
    "count_misplaced",
    "step_length",
]

#: A margin that differs from 1 by less is on the edge: whether its sample counts as inside changes nothing.
EDGE = 1e-9

#: Far above the five to fifteen steps that are usual; a problem that needs more ends where it is.
MAX_STEPS = 200

#: Steps that may leave more samples misplaced than the best so far. Then C is scaled down by ``DESCENT``, to a problem
#: that is easier, down to ``LEAST_SCALE``; its optimum is followed up again, ``CLIMB`` times C at a time. Near the
#: number of voxels at which the classes just come apart this takes 20 steps where C alone took 150. Where patience ends
#: on the way up, steps are searched for their length.
PATIENCE = 3
DESCENT, CLIMB, LEAST_SCALE = 0.01, 4.0, 1e-9


@inner
def count_misplaced(y, cost, in_train, f, inside):
    """Samples on the other side of the margin than the solution was made for. None: it is the optimum."""
    n_misplaced = 0
    for i in range(len(y)):
        slack = 1.0 - y[i] * f[i]
        is_wrong = slack < -EDGE if inside[i] else slack > EDGE
        n_misplaced += is_wrong and in_train[i] and cost[i] > 0.0
    return n_misplaced


@inner
def _slope(at, y, cost, in_train, f, g, r0, r1):
    """Derivative of the objective along a step, ``at`` of the way, and the derivative's own."""
    slope, bend = r0 + at * r1, r1
    for i in range(len(y)):
        value = f[i] + at * g[i]
        if in_train[i] and y[i] * value < 1.0:
            slope += cost[i] * (value - y[i]) * g[i]
            bend += cost[i] * g[i] * g[i]
    return slope, bend


@inner
def step_length(y, cost, in_train, f, g, r0, r1):
    """Where the objective is least along the step: 1, or less where a whole step would overshoot.

    The derivative is piecewise linear and rises, so Newton's iteration inside a shrinking bracket ends.
    """
    low, high, at = 0.0, 1.0, 1.0
    slope, bend = _slope(at, y, cost, in_train, f, g, r0, r1)
    if slope <= 1e-10 * bend:
        return 1.0
    for _ in range(60):
        new = at - slope / bend
        if not (low < new < high):
            new = 0.5 * (low + high)
        if abs(new - at) < 1e-12:
            return new
        at = new
        slope, bend = _slope(at, y, cost, in_train, f, g, r0, r1)
        if slope > 0.0:
            high = at
        else:
            low = at
    return at
