"""What the machinery around scikit-learn costs: the block stage against a bare loop, and a worker's memory.

    python benchmarks/overhead.py --out overhead.json    (about ten minutes)
    python benchmarks/overhead.py --quick                (a smoke test, its numbers mean nothing)

One worker computes at least a minute's worth of centers: neighbouring axial slices of a simulated brain,
enough of them by a rehearsal. The bare loop is ``cross_val_score`` of the same centers, folds and estimator,
one after the other in a fresh process, data and spheres at hand. The block stage is everything between "no
block done" and "all blocks done": sending the plan, the worker's imports, reading slabs, fitting, writing.
The two alternate; the ratio is taken pair by pair. Exits with 1 where scores differ or a target is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from compare import contend, tell
from measure import Measured, about, machine, save, spread
from subjects import FOLDS, RADIUS_MM, Subject, simulated_brain

WORK_S = 60.0
RATIO_TARGET = 1.05
WORKER_TARGET_BYTES = 500e6

#: Centers that the rehearsal times, and how much more work than the target it asks for.
_REHEARSED, _MARGIN = 200, 1.5


def enough_centers(folder: Path, work_s: float) -> int:
    """How many centers are the work wanted, from a bare loop over a few of the whole brain.

    By CPU seconds: on a machine that does other things, wall seconds would ask for too few.
    """
    everywhere = simulated_brain(folder, sys.maxsize)
    every = everywhere.n_centers // _REHEARSED
    tell("rehearsal")
    run = contend("bare-loop", everywhere, folder / "scores.npy", every=every).report
    center_s = run["stages"]["search"]["cpu_s"] / run["n_centers"]
    return min(everywhere.n_centers, int(_MARGIN * work_s / center_s))


def pairs(subject: Subject, repeat: int, folder: Path) -> tuple[list[Measured], list[Measured], bool]:
    """Block stage and bare loop in turn, and whether all scores were equal."""
    loops: list[Measured] = []
    blocks: list[Measured] = []
    is_equal, reference = True, None
    for number in range(repeat):
        for name, runs in (("bare-loop", loops), ("slcluster", blocks)):
            tell(f"pair {number + 1} of {repeat}, {name}")
            scores = folder / "scores.npy"
            runs.append(contend(name, subject, scores, rereads=True))
            found = np.load(scores)
            reference = found if reference is None else reference
            is_equal &= np.array_equal(found, reference)
    return loops, blocks, is_equal


def summary(loops: list[Measured], blocks: list[Measured]) -> dict[str, Any]:
    """Ratios, parts and memory. Parts are medians of wall seconds."""
    loop, stage = ([run.report["stages"]["search"] for run in runs] for runs in (loops, blocks))
    parts = [_parts(run.report) for run in blocks]
    return {
        "bare_loop_s": asdict(spread(one["wall_s"] for one in loop)),
        "bare_loop_cpu_s": asdict(spread(one["cpu_s"] for one in loop)),
        "block_stage_s": asdict(spread(one["wall_s"] for one in stage)),
        "ratio": asdict(spread(a["wall_s"] / b["wall_s"] for a, b in zip(stage, loop, strict=True))),
        "cpu_ratio": asdict(spread(a["cpu_s"] / b["cpu_s"] for a, b in zip(stage, loop, strict=True))),
        "parts_s": {name: spread(part[name] for part in parts).median for name in parts[0]},
        "reading_s": spread(run.report["reading_s"] for run in blocks).median,
        "n_blocks": blocks[0].report["blocks"]["n"],
        "worker_rss_bytes": max(max(run.report["workers_rss_bytes"]) for run in blocks),
        "driver_rss_bytes": max(run.report["rss_bytes"] for run in blocks),
        "bare_loop_rss_bytes": max(run.report["rss_bytes"] for run in loops),
    }


def _parts(report: dict[str, Any]) -> dict[str, float]:
    """What the wall seconds of a block stage with one worker consist of."""
    (began, ended), blocks = report["search_edges"], report["blocks"]
    return {
        "until the first block starts": blocks["first_start"] - began,
        "computing blocks": blocks["sum"],
        "between blocks": blocks["last_stop"] - blocks["first_start"] - blocks["sum"],
        "after the last block": ended - blocks["last_stop"],
    }


def report(found: dict[str, Any]) -> str:
    """For people."""

    def text(values: dict[str, float]) -> str:
        return "{median:.4g} ({min:.4g} to {max:.4g})".format(**values)

    lines = [
        f"bare loop of cross_val_score       {text(found['bare_loop_s'])} s, CPU {text(found['bare_loop_cpu_s'])} s",
        f"block stage, one worker            {text(found['block_stage_s'])} s in {found['n_blocks']} blocks",
        *(f"  {name:<32} {seconds:.3g} s" for name, seconds in found["parts_s"].items()),
        f"  (reading all slabs once more       {found['reading_s']:.3g} s)",
        f"block stage over bare loop         {text(found['ratio'])}, target below {RATIO_TARGET}",
        f"  the same of CPU seconds          {text(found['cpu_ratio'])}",
        f"worker's peak resident memory      {found['worker_rss_bytes'] / 1e6:.0f} MB, "
        f"target below {WORKER_TARGET_BYTES / 1e6:.0f} MB",
        f"  the driver's; the bare loop's    {found['driver_rss_bytes'] / 1e6:.0f} MB; "
        f"{found['bare_loop_rss_bytes'] / 1e6:.0f} MB",
        f"scores equal in every bit          {'yes' if found['scores_equal'] else 'NO'}",
    ]
    return "\n".join([*lines, *(f"MISSED: {miss}" for miss in found["missed"])])


def missed(found: dict[str, Any], work_s: float, is_quick: bool) -> list[str]:
    """What a result falls short of. Seconds of work say nothing about the ratio, so quick ones don't judge it."""
    misses = []
    if not found["scores_equal"]:
        misses.append("scores differ from the bare loop's")
    if found["worker_rss_bytes"] >= WORKER_TARGET_BYTES:
        misses.append("memory of the worker")
    if not is_quick and found["bare_loop_cpu_s"]["min"] < work_s:
        misses.append(f"the bare loop took less than {work_s:g} CPU s; ask for more --work-s")
    if not is_quick and found["ratio"]["median"] >= RATIO_TARGET:
        misses.append("ratio")
    return misses


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    parser.add_argument("--quick", action="store_true", help="a small brain, few centers, one pair")
    parser.add_argument("--repeat", type=int, default=3, help="pairs (default: 3)")
    parser.add_argument(
        "--work-s", type=float, default=WORK_S, help="least CPU seconds of bare loop (default: 60)"
    )
    parser.add_argument("--scratch", type=Path, help="folder for 1 GB of files (default: the system's)")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    repeat = 1 if arguments.quick else arguments.repeat
    result = about(
        "overhead",
        is_quick=arguments.quick,
        pairs=repeat,
        radius_mm=RADIUS_MM,
        estimator="svc",
        cv=f"KFold({FOLDS})",
    )
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        folder = Path(scratch)
        n_centers = 40 if arguments.quick else enough_centers(folder, arguments.work_s)
        subject = simulated_brain(folder, n_centers, are_together=True, is_small=arguments.quick)
        loops, blocks, is_equal = pairs(subject, repeat, folder)
    result |= {**subject.facts(), **summary(loops, blocks), "scores_equal": is_equal}
    result["missed"] = missed(result, arguments.work_s, arguments.quick)
    result["runs"] = {
        "bare_loop": [asdict(run) for run in loops],
        "slcluster": [asdict(run) for run in blocks],
    }
    result["load_average_at_end"] = machine()["load_average"]
    print(f"\n{subject}\n{report(result)}", flush=True)
    save(result, arguments.out)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
