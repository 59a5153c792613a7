"""What TLS costs on a real run: the same searchlight on two workers, encrypted with a run's credentials and in plain.

    python benchmarks/tls.py --out tls.json     (about ten minutes)
    python benchmarks/tls.py --quick            (a smoke test, its numbers mean nothing)

Both are Dask clusters on loopback with the same settings; one has the certificates that batch clusters get. Each
run is a fresh process with a simulated brain, a fast engine and a durable result, so that little is computed for
each message. They alternate; the ratio is taken within a round. Exits with 1 where maps differ or TLS costs more
than the target.

The search is from the first task to the last block. What comes before it (imports, two handshakes a worker) is the
stage *cluster*.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from measure import Laps, Measured, about, machine, measure_process, save, spread
from subjects import CONDITIONS, FOLDS, RADIUS_MM, simulated_store

TARGET = 1.05
WORKERS = 2
WAYS = ("tcp", "tls")


def compute(way: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One run in this process; its stages."""
    from distributed import Client, LocalCluster
    from sklearn.model_selection import KFold

    import slcluster as slc
    from slcluster.cluster.security import issue_credentials

    laps, scratch = Laps(), Path(settings["scratch"])
    ds = slc.select(slc.open_store(settings["store"]), conditions=list(CONDITIONS))
    credentials = issue_credentials(scratch / "tls") if way == "tls" else None
    laps.lap("set-up")
    with (
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            protocol=f"{way}://",
            security=credentials.security() if credentials else None,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(WORKERS)
        client.run(exec, "import slcluster.compute")
        laps.lap("cluster")
        maps = slc.searchlight(
            ds,
            radius_mm=RADIUS_MM,
            cv=KFold(FOLDS),
            block_centers=settings["block_centers"],
            out=scratch / "result.zarr",
            client=client,
        )
        laps.lap("search")
        address = cluster.scheduler_address
    np.save(settings["scores"], maps["score"].values)
    return {
        "stages": laps.stages,
        "address": address.partition("://")[0],
        "n_blocks": int(maps.attrs["n_blocks"]),
        "n_centers": int(maps.attrs["n_centers"]),
    }


def rounds(
    store: Path, repeat: int, folder: Path, block_centers: int
) -> tuple[dict[str, list[Measured]], bool]:
    """Both ways in turn, and whether all maps were equal in every bit. The first round compiles and is not counted."""
    runs: dict[str, list[Measured]] = {way: [] for way in WAYS}
    is_equal, reference = True, None
    for number in range(repeat + 1):
        # Who goes first changes, so that what a machine does meanwhile falls on both.
        for way in WAYS if number % 2 == 0 else reversed(WAYS):
            print(f"round {number} of {repeat}, {way}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                scores = Path(scratch) / "scores.npy"
                settings = {
                    "store": str(store),
                    "scratch": scratch,
                    "scores": str(scores),
                    "block_centers": block_centers,
                }
                run = measure_process([__file__, "--compute", way, json.dumps(settings)])
                found = np.load(scores)
            if run.report["address"] != way:
                raise RuntimeError(f"expected a cluster that speaks {way}, got {run.report['address']}")
            if number:
                runs[way].append(run)
            reference = found if reference is None else reference
            is_equal &= np.array_equal(found, reference, equal_nan=True)
    return runs, is_equal


def summary(runs: dict[str, list[Measured]]) -> dict[str, Any]:
    """Seconds of each way, and ratios of TLS over TCP."""
    found: dict[str, Any] = {"n_blocks": runs["tcp"][0].report["n_blocks"]}
    for stage in ("cluster", "search"):
        for kind in ("wall_s", "cpu_s"):
            seconds = {way: [run.report["stages"][stage][kind] for run in runs[way]] for way in WAYS}
            found[f"{stage}_{kind}"] = {way: asdict(spread(values)) for way, values in seconds.items()}
            pairs = zip(seconds["tls"], seconds["tcp"], strict=True)
            found[f"{stage}_{kind}_ratio"] = asdict(spread(tls / tcp for tls, tcp in pairs))
    return found


def report(found: dict[str, Any]) -> str:
    """For people."""

    def text(values: dict[str, float]) -> str:
        return "{median:.3f} ({min:.3f} to {max:.3f})".format(**values)

    lines = [f"{found['n_centers']:,} centers in {found['n_blocks']} blocks, {WORKERS} workers"]
    for stage in ("cluster", "search"):
        for kind, name in (("wall_s", "wall"), ("cpu_s", "CPU")):
            values = found[f"{stage}_{kind}"]
            lines.append(
                f"{stage:<8} {name:<4} TCP {text(values['tcp'])} s, TLS {text(values['tls'])} s, "
                f"ratio {text(found[f'{stage}_{kind}_ratio'])}"
            )
    lines.append(f"target: TLS over TCP below {TARGET} of the search's wall and CPU seconds")
    lines.append(f"maps equal in every bit: {'yes' if found['maps_equal'] else 'NO'}")
    return "\n".join([*lines, *(f"MISSED: {miss}" for miss in found["missed"])])


def missed(found: dict[str, Any], is_quick: bool) -> list[str]:
    """What a result falls short of. A quick run is too short for ratios."""
    misses = [] if found["maps_equal"] else ["maps differ"]
    for kind in ("wall_s", "cpu_s"):
        if not is_quick and found[f"search_{kind}_ratio"]["median"] >= TARGET:
            misses.append(f"ratio of {kind}")
    return misses


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    parser.add_argument("--quick", action="store_true", help="a small brain, one round")
    parser.add_argument("--repeat", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--block-centers", type=int, default=100, help="centers in a block (default: 100)")
    parser.add_argument("--scratch", type=Path, help="folder for 1 GB of files (default: the system's)")
    parser.add_argument("--compute", nargs=3, metavar=("WAY", "SETTINGS", "REPORT"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    if arguments.compute:
        way, settings, out = arguments.compute
        Path(out).write_text(json.dumps(compute(way, json.loads(settings))))
        return 0
    repeat = 1 if arguments.quick else arguments.repeat
    result = about(
        "tls",
        is_quick=arguments.quick,
        rounds=repeat,
        workers=WORKERS,
        radius_mm=RADIUS_MM,
        estimator="svc",
        cv=f"KFold({FOLDS})",
        block_centers=arguments.block_centers,
    )
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        folder = Path(scratch)
        simulated_store(folder / "subject.zarr", "two", is_small=arguments.quick)
        runs, is_equal = rounds(folder / "subject.zarr", repeat, folder, arguments.block_centers)
    result |= {**summary(runs), "n_centers": runs["tcp"][0].report["n_centers"], "maps_equal": is_equal}
    result["missed"] = missed(result, arguments.quick)
    result["runs"] = {way: [asdict(run) for run in found] for way, found in runs.items()}
    result["load_average_at_end"] = machine()["load_average"]
    print(f"\n{report(result)}", flush=True)
    save(result, arguments.out)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
