"""The speed table: fast engines against nilearn, one core against one core, and what surrounds them, against targets.

    python benchmarks/speed.py --out speed.json              (half an hour)
    python benchmarks/speed.py --rows svc-5.6 gnb            (rows whose names begin so)
    python benchmarks/speed.py --quick                       (minutes; a smoke test, its numbers mean nothing)

Both sides of a row get the same values of the same simulated brain and the same centers, each in a fresh process
with one thread; they alternate, and a ratio is taken within a round. Seconds per center are of the CPU. Exits with
1 where a target is missed, or scores differ that must be equal.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from measure import Measured, about, machine, measure_process, save, spread
from rows import ROWS, Row, chosen_rows
from searches import features, make_plan
from speed_table import report
from subjects import CONDITIONS, choose_centers, simulated_brain, simulated_store

HERE = Path(__file__).parent


class Bench:
    """Data in a scratch folder, made when first needed, and processes that work on them."""

    def __init__(self, folder: Path, *, is_quick: bool) -> None:
        self.folder, self.is_quick = folder, is_quick

    def settings(self, row: Row) -> dict[str, Any]:
        """What every process of a row needs to know."""
        store = self.folder / f"{row.data}.zarr"
        if not store.exists():
            tell(f"simulating a brain: {row.data}")
            simulated_store(store, row.data, is_small=self.is_quick)
        return {"store": str(store), "spec": row.spec, "n_processes": row.n_processes}

    def search_settings(self, row: Row) -> dict[str, Any]:
        """The same with values, centers and how many."""
        settings = self.settings(row)
        plan = make_plan(settings)
        path = self.folder / f"{row.data}-{row.standardize}-{row.dtype}.npy"
        if not path.exists():
            np.save(path, features(plan, row.dtype))
        n = min(row.n_centers, 40) if self.is_quick else row.n_centers
        mask = plan.geometry.mask
        chosen = np.flatnonzero(choose_centers(mask, n, are_together=False)[mask])
        np.save(self.folder / "chosen.npy", chosen)
        return settings | {
            "features": str(path),
            "chosen": str(self.folder / "chosen.npy"),
            "scores": str(self.folder / "scores.npy"),
            "n_in_blocks": min(row.n_in_blocks, 100) if self.is_quick else row.n_in_blocks,
        }

    def process(self, script: str, name: str, settings: dict[str, Any]) -> Measured:
        return measure_process([str(HERE / f"{script}.py"), name, json.dumps(settings)])

    def together(self, name: str, settings: list[dict[str, Any]]) -> list[Measured]:
        """Processes that wait for each other, and then begin at once."""
        with (
            tempfile.TemporaryDirectory(dir=self.folder) as meeting,
            ThreadPoolExecutor(len(settings)) as pool,
        ):
            each = [{**one, "meeting": meeting, "number": i} for i, one in enumerate(settings)]
            return list(pool.map(lambda one: self.process("stages", name, one), each))


def search(bench: Bench, row: Row, rounds: int) -> dict[str, Any]:
    """nilearn and ours in turn on the same centers; ours also in whole blocks."""
    settings = bench.search_settings(row)
    runs: list[dict[str, Any]] = []
    for number in range(rounds):
        found = {}
        for side in ("nilearn", "slcluster"):
            tell(f"{row.name}: round {number + 1} of {rounds}, {side}")
            wants_bounds = number == rounds - 1
            report = bench.process("searches", side, {**settings, "wants_bounds": wants_bounds}).report
            found[side] = report | {"scores": np.load(settings["scores"])}
        runs.append(found)
    ours, theirs = ([run[side] for run in runs] for side in ("slcluster", "nilearn"))
    center_s = [run["cpu_s"] / run["n_centers"] for run in theirs]
    ratios = {
        "same": spread(a["cpu_s"] / b["cpu_s"] for a, b in zip(theirs, ours, strict=True)),
        "blocks": spread(
            s * b["n_in_blocks"] / b["blocks_cpu_s"] for s, b in zip(center_s, ours, strict=True)
        ),
    }
    away = np.abs(ours[-1].pop("scores") - theirs[-1].pop("scores"))
    for run in (*ours, *theirs):
        run.pop("scores", None)
    return {
        "figure": asdict(ratios[row.judged]),
        "ratio_same_centers": asdict(ratios["same"]),
        "ratio_in_blocks": asdict(ratios["blocks"]),
        "nilearn_center_ms": 1e3 * spread(center_s).median,
        "center_ms": 1e3 * spread(run["cpu_s"] / run["n_centers"] for run in ours).median,
        "n_differing": int(np.count_nonzero(away > 1e-12)),
        "largest_difference": float(away.max()),
        "is_equal": not row.is_exact or bool((away <= 1e-12).all()),
        "runs": runs,
    }


def set_up(bench: Bench, row: Row, rounds: int) -> dict[str, Any]:
    """Spheres of all centers."""
    settings, runs = bench.search_settings(row), []
    for number in range(min(rounds, 2)):
        tell(f"{row.name}: round {number + 1} of {min(rounds, 2)}")
        runs.append(
            {
                side: bench.process("searches", f"{side}-set-up", settings).report
                for side in ("nilearn", "slcluster")
            }
        )
    is_equal = all(run["nilearn"]["digest"] == run["slcluster"]["digest"] for run in runs)
    ratio = spread(run["nilearn"]["cpu_s"] / run["slcluster"]["cpu_s"] for run in runs)
    return {"figure": asdict(ratio), "is_equal": is_equal, "runs": runs}


def command_line(bench: Bench, row: Row, rounds: int) -> dict[str, Any]:
    """Files to maps, by the command."""
    tell(f"{row.name}: writing files")
    subject = simulated_brain(bench.folder, 10**6, is_small=bench.is_quick)
    runs = []
    for number in range(rounds):
        tell(f"{row.name}: round {number + 1} of {rounds}")
        with tempfile.TemporaryDirectory(dir=bench.folder) as scratch:
            given = {
                "--bold": subject.bold,
                "--mask": subject.mask,
                "--labels": subject.labels,
                "--conditions": ",".join(CONDITIONS),
                "--radius-mm": str(row.radius_mm),
                "--estimator": row.estimator,
                "--cv": f"{{class: KFold, params: {{n_splits: {row.n_folds}}}}}",
                "--workers": str(row.n_processes),
                "--out": f"{scratch}/maps.zarr",
                "--export": f"{scratch}/maps",
            }
            words = [
                "searchlight",
                f"{scratch}/subject.zarr",
                *(word for pair in given.items() for word in pair),
            ]
            runs.append(asdict(bench.process("stages", "command-line", {"arguments": words})))
    stages = runs[0]["report"]["stages"]
    return {
        "figure": asdict(spread(run["wall_s"] for run in runs)),
        "cpu_s": spread(run["cpu_s"] for run in runs).median,
        "stages_s": {
            name: spread(run["report"]["stages"][name]["wall_s"] for run in runs).median for name in stages
        },
        "n_centers": subject.n_centers,
        "runs": runs,
    }


def second_worker(bench: Bench, row: Row, rounds: int) -> dict[str, Any]:
    """Blocks a second by workers of a cluster, over those by as many processes that know nothing of each other."""
    import nibabel as nib

    settings = bench.settings(row)
    plan = make_plan(settings)
    n = 200 if bench.is_quick else row.n_centers
    centers = nib.Nifti1Image(
        choose_centers(plan.geometry.mask, n, are_together=True).astype(np.uint8), plan.geometry.affine
    )
    nib.save(centers, bench.folder / "together.nii.gz")
    settings["process_mask"] = str(bench.folder / "together.nii.gz")
    sides: list[tuple[str, Callable[[], list[Measured]]]] = [
        ("alone_s", lambda: bench.together("independent-blocks", [settings] * row.n_processes)),
        ("workers_s", lambda: [bench.process("stages", "worker-blocks", settings)]),
    ]
    runs = []
    for number in range(2 * rounds):  # the other side first each time: both take as long, and machines drift
        tell(f"{row.name}: round {number + 1} of {2 * rounds}")
        runs.append({name: _from_first_to_last(side()) for name, side in sides[:: (-1) ** number]})
    share = spread(100 * run["alone_s"] / run["workers_s"] for run in runs)
    return {"figure": asdict(share), "n_centers": n, "runs": runs}


def _from_first_to_last(measured: list[Measured]) -> float:
    reports = [one.report for one in measured]
    return float(max(report["ended"] for report in reports) - min(report["began"] for report in reports))


def cold(bench: Bench, row: Row, rounds: int) -> dict[str, Any]:
    """The first block where nothing is compiled yet: the slowest of those that start at once."""
    settings = bench.settings(row) | {"block_centers": 32}
    runs = []
    for number in range(min(rounds, 2)):
        tell(f"{row.name}: round {number + 1} of {min(rounds, 2)}")
        with tempfile.TemporaryDirectory(dir=bench.folder) as cache:
            all_of_them = bench.together("first-block", [settings | {"cache": cache}] * row.n_processes)
        runs.append([one.report for one in all_of_them])
    return {
        "figure": asdict(spread(max(one["first"]["wall_s"] for one in run) for run in runs)),
        "cpu_s": spread(one["first"]["cpu_s"] for run in runs for one in run).median,
        "again_s": spread(one["second"]["wall_s"] for run in runs for one in run).median,
        "runs": runs,
    }


KINDS: dict[str, Callable[[Bench, Row, int], dict[str, Any]]] = {
    "search": search,
    "set-up": set_up,
    "command-line": command_line,
    "workers": second_worker,
    "cold": cold,
}


def judge(row: Row, found: dict[str, Any], *, is_quick: bool) -> dict[str, Any]:
    """The row with its target and whether it is reached. Small data say nothing about speed, only about equality."""
    is_equal = found.get("is_equal", True)
    is_fast = row.is_reached(found["figure"]["median"])
    state = "at target" if is_fast else "not judged" if is_quick else "MISSED"
    head = {"row": row.name, "target": row.target, "unit": row.unit, "asked": asdict(row)}
    return head | found | {"state": state if is_equal else "MISSED: scores or spheres differ"}


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    parser.add_argument("--quick", action="store_true", help="a small brain, few centers, one round")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default: 3)")
    names = ", ".join(row.name for row in ROWS)
    parser.add_argument("--rows", nargs="+", metavar="NAME", help=f"rows whose names begin so, of {names}")
    parser.add_argument("--scratch", type=Path, help="folder for 2 GB of files (default: the system's)")
    arguments = parser.parse_args()
    try:
        arguments.rows = chosen_rows(arguments.rows)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def main() -> int:
    arguments = parse()
    rounds = 1 if arguments.quick else arguments.repeat
    result = about("speed", is_quick=arguments.quick, rounds=rounds)
    result["rows"] = []
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        bench = Bench(Path(scratch), is_quick=arguments.quick)
        for row in arguments.rows:
            found = judge(row, KINDS[row.kind](bench, row, rounds), is_quick=arguments.quick)
            result["rows"].append(found)
            print(report(found), flush=True)
    missed = [found["row"] for found in result["rows"] if found["state"].startswith("MISSED")]
    print(
        f"\n{len(result['rows']) - len(missed)} of {len(result['rows'])} rows at target"
        if not arguments.quick
        else ""
    )
    result |= {"missed": missed, "load_average_at_end": machine()["load_average"]}
    save(result, arguments.out)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
