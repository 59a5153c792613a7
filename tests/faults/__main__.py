"""The fault figures: every kind of fault, as often as asked, and whether its rules were kept.

    python -m tests.faults                            (short: a minute or two)
    python -m tests.faults --long                     (what is promised: about twenty minutes)
    python -m tests.faults --long --only kills disk   (some of it)
    python -m tests.faults --only soak --soak 600     (ten minutes of Dask's KillWorker)

Prints a table and exits with 1 where a rule was broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import OBLIQUE
from tests.witness import noise_dataset

ROOT = Path(__file__).parents[2]

#: How often: short, long.
COUNTS = {
    "driver": (4, 100),
    "worker": (2, 50),
    "scheduler": (2, 20),
    "group": (2, 15),
    "bit flips": (20, 500),
    "truncations": (10, 100),
    "calls": (1, 8),
    "processes": (2, 6),
    "seconds": (8, 600),
}
ENGINES = (("gnb",), ("gnb", "nearest_centroid", "svc"))


class Row(NamedTuple):
    """A line of the table."""

    what: str
    n: int
    told: str
    broken: list[str]


class Bench(NamedTuple):
    """What all scenarios share: a subject, its result, and where to work."""

    folder: Path
    store: Path
    result: Path
    undisturbed: Any
    count: Callable[[str], int]
    is_long: bool


def kills(bench: Bench) -> Iterator[Row]:
    from tests.faults.kills import KILLS, kill

    for what in KILLS:
        n, outcomes = bench.count(what), []
        for trial in range(n):
            with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
                outcomes.append(kill(what, trial, bench.store, bench.undisturbed, Path(folder)))
            _tell(f"{what} {trial + 1}/{n}")
        n_done = sorted(one.n_done for one in outcomes)
        twice = max(one.n_twice for one in outcomes)
        told = f"{n_done[0]} to {n_done[-1]} blocks done at the kill; at most {twice} computed twice"
        yield Row(f"SIGKILL of the {what}", n, told, [rule for one in outcomes for rule in one.broken])


def damages(bench: Bench) -> Iterator[Row]:
    from tests.faults.damage import DAMAGES, PLACES, damage

    for place in PLACES:
        for how in DAMAGES:
            n = bench.count(how)
            _tell(f"{how} in {place}")
            told = damage(place, how, n, bench.store, bench.result)
            rules = {"damage is noticed": told["missed"], "fsck notices it": told["unseen by fsck"]}
            text = (
                f"{told['noticed']} noticed, {told['identical']} decoded identically, {told['missed']} missed"
            )
            yield Row(f"{how} in {place}", n, text, [rule for rule, n in rules.items() if n])


def disk(bench: Bench) -> Iterator[Row]:
    from tests.faults import faulty_disk

    if faulty_disk.compiler() is None:
        yield Row("a disk that fails", 0, "not tried: no C compiler", [])
        return
    _tell("disk")
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        found = faulty_disk.run(Path(folder), bench.count("calls"))
    for stage in ("ingest", "write", "assemble"):
        for error in faulty_disk.FAULTS:
            some = [one for one in found if (one["stage"], one["error"]) == (stage, error)]
            kinds = Counter(one["raised"] for one in some)
            broken = [rule for one in some for rule in one["broken"]]
            broken += ["a typed error" for one in some if not one["is_typed"]]
            broken += [] if some else ["it was reached"]
            told = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
            yield Row(f"{error} at {stage}", len(some), told, broken)


def cold(bench: Bench) -> Iterator[Row]:
    from tests.faults.cold import cold as begin

    n, engines = bench.count("processes"), ENGINES[bench.is_long]
    _tell("cold cache")
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        broken = begin(bench.store, engines, n, Path(folder))
    yield Row("processes that compile at once", n, f"{', '.join(engines)}: same maps, cold and warm", broken)


def soak(bench: Bench) -> Iterator[Row]:
    from tests.faults.soak import soak as endure

    _tell("soak")
    seconds = bench.count("seconds")
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        found = endure(seconds, bench.store, bench.undisturbed, Path(folder))
    told = (
        f"{found.n_runs} analyses, {found.n_deaths} workers died, "
        f"at most {found.longest_pause_s:.1f} s between two blocks"
    )
    yield Row(f"KillWorker for {seconds:g} s", found.n_runs, told, list(found.broken))


SCENARIOS = {"kills": kills, "damages": damages, "disk": disk, "cold": cold, "soak": soak}


def _tell(text: str) -> None:
    with suppress(OSError):
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--long", action="store_true", help="as often as is promised")
    parser.add_argument(
        "--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help="some scenarios"
    )
    parser.add_argument("--out", type=Path, help="write the table here as JSON")
    parser.add_argument("--soak", type=int, metavar="S", dest="seconds", help="seconds of KillWorker")
    for name in COUNTS:
        if name != "seconds":
            flag, (short, long) = name.replace(" ", "-"), COUNTS[name]
            parser.add_argument(
                f"--{flag}", type=int, metavar="N", dest=name, help=f"{short}, or {long} with --long"
            )
    return parser.parse_args()


def main() -> int:
    given = vars(parse())
    import logging

    from slcluster.store import write_array_store
    from tests.faults.driving import analyse

    logging.getLogger("slcluster").setLevel(logging.CRITICAL)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)

    def count(name: str) -> int:
        return COUNTS[name][given["long"]] if given[name] is None else int(given[name])

    began, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = write_array_store(noise_dataset(affine=OBLIQUE), folder / "subject.zarr")
        undisturbed = analyse(store, folder / "result.zarr", folder / "log")
        bench = Bench(folder, store, folder / "result.zarr", undisturbed, count, given["long"])
        for name in given["only"]:
            for row in SCENARIOS[name](bench):
                _tell("")
                print(f"{row.what:<34} {row.n:>5}  {row.told}", flush=True)
                for rule in sorted(set(row.broken)):
                    print(f"    BROKEN {row.broken.count(rule)} times: {rule}")
                rows.append(row)
    n_broken = sum(bool(row.broken) for row in rows)
    print(f"{len(rows)} kinds of faults, {n_broken} with a broken rule, {time.monotonic() - began:.0f} s")
    if given["out"] is not None:
        given["out"].write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    return 1 if n_broken else 0


if __name__ == "__main__":
    sys.exit(main())
