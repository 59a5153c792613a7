"""slcluster against nilearn, and nilearn under Dask: the same files, estimator, folds and centers, in one run.

    SLCLUSTER_TEST_DATA=... python benchmarks/compare.py --out compare.json    (about ten minutes)
    python benchmarks/compare.py --quick                (a minute; a smoke test, its numbers mean nothing)

Every contender is a fresh process, from files to scores, with one thread for BLAS and OpenMP. Contenders
alternate, round after round; ratios are taken within a round, rival over slcluster with as many workers, so
above 1 slcluster took less. Exits with 1 where two maps differ in any bit: there would be nothing to compare.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measure import Measured, about, machine, measure_process, save, spread
from subjects import FOLDS, RADIUS_MM, Subject, real_slice, simulated_brain

CONTENDERS = Path(__file__).with_name("contenders.py")
OURS, RIVALS = "slcluster", ("nilearn", "nilearn-dask")

#: Stages in the order they happen. What one contender calls ingest is loading for another.
_STAGES = {
    "ingest or load s": ("ingest", "load"),
    "cluster s": ("cluster",),
    "set-up s": ("set-up",),
    "search s": ("search",),
    "assemble s": ("assemble",),
}

#: What is compared of two runs.
_COMPARED: dict[str, Callable[[dict[str, Any]], float]] = {
    "search_wall": lambda run: run["report"]["stages"]["search"]["wall_s"],
    "search_cpu": lambda run: run["report"]["stages"]["search"]["cpu_s"],
    "whole_wall": lambda run: run["wall_s"],
    "whole_cpu": lambda run: run["cpu_s"],
    "tree_rss": lambda run: run["tree_rss_bytes"],
}


def contend(name: str, subject: Subject, scores: Path, *, workers: int = 1, **more: Any) -> Measured:
    """One contender, once, in a process of its own; its scores are left in ``scores``."""
    with tempfile.TemporaryDirectory(dir=scores.parent) as scratch:
        settings = {**subject.files, "workers": workers, "scratch": scratch, "scores": str(scores), **more}
        return measure_process([str(CONTENDERS), name, json.dumps(settings)])


def compare(subject: Subject, workers: Sequence[int], rounds: int, folder: Path) -> dict[str, Any]:
    """All contenders in turn, ``rounds`` times over, and set-up of the whole mask."""
    cases: list[dict[str, Any]] = [
        {"contender": name, "workers": n, "is_equal": True, "runs": []}
        for n in workers
        for name in (OURS, *RIVALS)
    ]
    scores, reference = folder / "scores.npy", None
    for number in range(rounds):
        for case in cases:
            tell(f"{subject.name}: round {number + 1} of {rounds}, {title(case)}")
            case["runs"].append(asdict(contend(case["contender"], subject, scores, workers=case["workers"])))
            found = np.load(scores)
            scores.unlink()
            reference = found if reference is None else reference
            case["is_equal"] &= np.array_equal(found, reference)
    if reference is None or reference.shape != (subject.n_centers,) or not np.isfinite(reference).all():
        raise RuntimeError(f"expected {subject.n_centers} finite scores, got {reference!r}")
    return {
        **subject.facts(),
        "mean_score": float(reference.mean()),
        "maps_equal": all(case["is_equal"] for case in cases),
        "cases": cases,
        "ratios": ratios(cases),
        "set_up_of_all": set_up_of_all(subject, scores),
    }


def title(case: dict[str, Any]) -> str:
    return f"{case['contender']}, {case['workers']}"


def ratios(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every rival over slcluster with as many workers, round by round."""
    ours = {case["workers"]: case["runs"] for case in cases if case["contender"] == OURS}
    return [
        {
            "contender": case["contender"],
            "workers": case["workers"],
            **{
                what: asdict(
                    spread(
                        take(rival) / take(own)
                        for rival, own in zip(case["runs"], ours[case["workers"]], strict=True)
                    )
                )
                for what, take in _COMPARED.items()
            },
        }
        for case in cases
        if case["contender"] in RIVALS
    ]


def set_up_of_all(subject: Subject, scores: Path) -> dict[str, dict[str, float]]:
    """Set-up for every center of the mask, once: nilearn's grows with centers x voxels."""
    found = {}
    for name in (OURS, "nilearn"):
        tell(f"{subject.name}: set-up of all {subject.n_mask_voxels:,} centers, {name}")
        found[name] = contend(f"{name}-set-up", subject, scores).report
    sizes = {one["n_memberships"] for one in found.values()}
    if len(sizes) > 1:
        raise RuntimeError(f"the spheres differ: {sizes} voxels in all of them together")
    return {name: one["stages"]["set-up"] for name, one in found.items()}


def report(found: dict[str, Any]) -> str:
    """The result of one subject for people: medians with their range."""
    times = pd.DataFrame({title(case): _row(case["runs"]) for case in found["cases"]}).T
    compared = pd.DataFrame(
        {
            title(one): {what.replace("_", " "): _text(one[what]) for what in _COMPARED}
            for one in found["ratios"]
        }
    ).T
    if found["maps_equal"]:
        equal = (
            f"all {len(found['cases'])} contenders' maps equal in every bit, in every round (np.array_equal)"
        )
    else:
        unequal = "; ".join(title(case) for case in found["cases"] if not case["is_equal"])
        equal = f"MAPS DIFFER (np.array_equal): {unequal}"
    set_up = ", ".join(f"{name} {stage['wall_s']:.3g} s" for name, stage in found["set_up_of_all"].items())
    return (
        f"{times.to_string()}\n\nrival over slcluster with as many workers:\n{compared.to_string()}\n\n"
        f"{equal}\nset-up of all {found['n_mask_voxels']:,} centers, once: {set_up}"
    )


def _row(runs: list[dict[str, Any]]) -> dict[str, str]:
    """One contender's row of the table."""
    row = {"whole s": str(spread(run["wall_s"] for run in runs))}
    for column, names in _STAGES.items():
        stages = [run["report"]["stages"] for run in runs]
        times = [stage[name]["wall_s"] for stage in stages for name in names if name in stage]
        row[column] = (
            "-"
            if not times
            else str(spread(times))
            if column == "search s"
            else f"{spread(times).median:.2g}"
        )
    row["CPU s"] = f"{spread(run['cpu_s'] for run in runs).median:.3g}"
    row["tree MB"] = f"{max(run['tree_rss_bytes'] for run in runs) / 1e6:.0f}"
    row["largest MB"] = f"{max(run['process_rss_bytes'] for run in runs) / 1e6:.0f}"
    return row


def _text(values: dict[str, float]) -> str:
    return "{median:.3g} ({min:.3g} to {max:.3g})".format(**values)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def subjects(arguments: argparse.Namespace, folder: Path) -> list[Subject]:
    """What to compare on: the real slice where it is, and a simulated brain."""
    n_centers = arguments.centers or (40 if arguments.quick else 1000)
    chosen = []
    if arguments.data in ("slice", "all"):
        found = real_slice(folder, n_centers)
        if found is None:
            tell("the real slice is left out: SLCLUSTER_TEST_DATA is not set")
        else:
            chosen.append(found)
    if arguments.data in ("brain", "all"):
        tell("simulating a brain")
        chosen.append(simulated_brain(folder, n_centers, is_small=arguments.quick))
    return chosen


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    parser.add_argument("--quick", action="store_true", help="a small brain, few centers, one round")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes (default: 1 2)")
    parser.add_argument("--centers", type=int, help="centers timed, spread over the mask (default: 1000)")
    parser.add_argument("--data", choices=("all", "slice", "brain"), default="all")
    parser.add_argument("--scratch", type=Path, help="folder for 1 GB of files (default: the system's)")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    rounds = 1 if arguments.quick else arguments.repeat
    result = about(
        "compare",
        is_quick=arguments.quick,
        rounds=rounds,
        radius_mm=RADIUS_MM,
        estimator="svc",
        cv=f"KFold({FOLDS})",
        scoring="accuracy",
    )
    result["subjects"] = []
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        for subject in subjects(arguments, Path(scratch)):
            found = compare(subject, arguments.workers, rounds, Path(scratch))
            result["subjects"].append(found)
            print(f"\n{subject}\n{report(found)}", flush=True)
    result["load_average_at_end"] = machine()["load_average"]
    save(result, arguments.out)
    return 0 if all(one["maps_equal"] for one in result["subjects"]) else 1


if __name__ == "__main__":
    sys.exit(main())
