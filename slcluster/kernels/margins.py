"""The margin of a squared-hinge problem: who is inside, and how far a step may go."""

from __future__ import annotations

from slcluster.kernels.compiling import inner

__all__ = [
    "CLIMB",
    "DESCENT",
    "EDGE",
    "LEAST_SCALE",
    "LEAST_SLACK",
    "MAX_STEPS",
    "PATIENCE",
    "count_misplaced",
    "step_length",
]

#: A sample outside that falls short of the margin by less is on the edge: whether it counts as inside changes nothing.
#: For those inside it is this part of the largest shortfall. A shortfall is a sample's coefficient over its cost, and
#: where C is large for the scale of the voxels all are tiny.
EDGE = 1e-9

#: Shortfalls that are all smaller have lost the digits that decide, if they were found from decisions near 1. They are
#: the weight of samples in the solution, so the weights have too.
LEAST_SLACK = 1e-7

#: Far above the five to fifteen steps that are usual; a problem that needs more ends where it is, and is counted.
MAX_STEPS = 200

#: Steps that may leave more samples misplaced than the best so far. Then C is scaled down by ``DESCENT``, to a problem
#: that is easier, down to ``LEAST_SCALE``; its optimum is followed up again, ``CLIMB`` times C at a time. Near the
#: number of voxels at which the classes just come apart this takes 20 steps where C alone took 150. Where patience ends
#: on the way up, steps are searched for their length.
PATIENCE = 3
DESCENT, CLIMB, LEAST_SCALE = 0.01, 4.0, 1e-9


@inner
def count_misplaced(slack, cost, in_train, inside):
    """Samples on the other side of the margin than the solution was made for; and the largest shortfall inside.

    ``slack`` is how far each sample falls short of the margin. None misplaced: it is the optimum.
    """
    n_misplaced, largest, least = 0, 0.0, 0.0
    for i in range(len(slack)):
        if in_train[i] and cost[i] > 0.0:
            if inside[i]:
                largest, least = max(largest, slack[i]), min(least, slack[i])
                n_misplaced += not slack[i] >= -EDGE  # nor is NaN in place
            else:
                n_misplaced += not slack[i] <= EDGE
    if n_misplaced == 0 and least < -EDGE * min(largest, 1.0):
        n_misplaced = 1
    return n_misplaced, largest


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
