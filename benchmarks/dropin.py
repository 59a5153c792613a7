"""nilearn's ``SearchLight`` against ours behind the same arguments: one process, one core, from images to scores.

    SLCLUSTER_TEST_DATA=... python benchmarks/dropin.py --out dropin.json    (three minutes)
    python benchmarks/dropin.py --quick                (a minute; a smoke test, its numbers mean nothing)

Each is timed on its second ``fit``, in a fresh process, round after round. Beside the times stands how far the
scores are from nilearn's: none with scikit-learn's engine, and where the fast engine ends at the optimum that
nilearn's solver stops short of, some. Exits with 1 where scikit-learn's engine differs in any bit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from compare import contend, tell
from measure import about, machine, save, spread
from subjects import FOLDS, RADIUS_MM, Subject, real_slice, simulated_brain

#: What is printed, the library, and the engine asked for.
_KINDS = (
    ("nilearn", "nilearn", ""),
    ("slcluster, auto", "slcluster", "auto"),
    ("slcluster, sklearn", "slcluster", "sklearn"),
)


def compare_classes(subject: Subject, rounds: int, folder: Path) -> dict[str, Any]:
    """Times of every class, and its scores beside nilearn's."""
    runs: dict[str, list[Any]] = {title: [] for title, _, _ in _KINDS}
    scores: dict[str, np.ndarray] = {}
    for number in range(rounds):
        for title, library, engine in _KINDS:
            tell(f"{subject.name}: round {number + 1} of {rounds}, {title}")
            path = folder / "scores.npy"
            runs[title].append(asdict(contend("class", subject, path, library=library, engine=engine)))
            scores[title] = np.load(path)
    theirs = scores["nilearn"]
    return {
        **subject.facts(),
        "runs": runs,
        "differences": {
            title: {
                "n_centers": int(np.count_nonzero(found != theirs)),
                "largest": float(np.abs(found - theirs).max()),
                "mean": float((found - theirs).mean()),
            }
            for title, found in scores.items()
            if title != "nilearn"
        },
        "ratios": {
            title: asdict(spread(_fit_s(a) / _fit_s(b) for a, b in zip(runs["nilearn"], found, strict=True)))
            for title, found in runs.items()
        },
    }


def _fit_s(run: dict[str, Any]) -> float:
    return float(run["report"]["stages"]["fit"]["wall_s"])


def report(found: dict[str, Any]) -> str:
    """The result of one subject for people."""
    rows = {}
    for title, runs in found["runs"].items():
        differs = found["differences"].get(title)
        rows[title] = {
            "fit s": str(spread(map(_fit_s, runs))),
            "nilearn over it": "{median:.3g} ({min:.3g} to {max:.3g})".format(**found["ratios"][title]),
            "centers that differ": "-"
            if differs is None
            else f"{differs['n_centers']} of {found['n_centers']:,}",
            "largest": "-" if differs is None else f"{differs['largest']:.4f}",
            "mean": "-" if differs is None else f"{differs['mean']:+.5f}",
        }
    return pd.DataFrame(rows).T.to_string()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    parser.add_argument("--quick", action="store_true", help="a small brain, few centers, one round")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--scratch", type=Path, help="folder for 1 GB of files (default: the system's)")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    rounds = 1 if arguments.quick else arguments.repeat
    result = about(
        "dropin", is_quick=arguments.quick, rounds=rounds, radius_mm=RADIUS_MM, cv=f"KFold({FOLDS})"
    )
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        folder = Path(scratch)
        chosen = [None if arguments.quick else real_slice(folder, 1000)]
        chosen.append(simulated_brain(folder, 40 if arguments.quick else 1000, is_small=arguments.quick))
        result["subjects"] = []
        for subject in filter(None, chosen):
            found = compare_classes(subject, rounds, folder)
            result["subjects"].append(found)
            print(f"\n{subject}\n{report(found)}", flush=True)
    result["load_average_at_end"] = machine()["load_average"]
    save(result, arguments.out)
    equal = all(one["differences"]["slcluster, sklearn"]["n_centers"] == 0 for one in result["subjects"])
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
