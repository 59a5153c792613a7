"""What the whole machine is timed by, one process each: the command line, workers, a cold cache.

    python benchmarks/stages.py NAME SETTINGS REPORT

SETTINGS is JSON, see each function; REPORT the JSON file to write.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measure import Laps


def command_line(settings: dict[str, Any]) -> dict[str, Any]:
    """``slcluster searchlight`` with ``arguments``, from files to maps. Only watched: where stages begin and end."""
    laps = Laps()
    cli = import_module("slcluster.cli")
    ingest, cluster, search = (
        import_module(f"slcluster.{name}") for name in ("ingest", "cluster", "searchlight")
    )
    write, start, compute = ingest.ingest, cluster.connect, search.searchlight
    listener = import_module("slcluster.progress").listener

    def ingested(*arguments: Any, **options: Any) -> Any:
        laps.lap("imports and options")
        found = write(*arguments, **options)
        laps.lap("ingest")
        return found

    @contextmanager
    def connected(*arguments: Any, **options: Any) -> Any:
        laps.lap("plan")
        with start(*arguments, **options) as client:
            laps.lap("cluster start")
            yield client

    @wraps(compute)  # it looks at its own signature
    def computed(*arguments: Any, progress: Any = None, **options: Any) -> Any:
        told = listener(progress)

        def tell(step: Any) -> None:
            if step.unit == "block" and step.done in (0, step.total):
                laps.lap("blocks" if step.done else "result store")
            told(step)

        found = compute(*arguments, progress=tell, **options)
        laps.lap("maps")
        return found

    ingest.ingest, cluster.connect, search.searchlight = ingested, connected, computed
    code = 0
    try:
        cli.cli.main(settings["arguments"])
    except SystemExit as end:
        code = int(end.code or 0)
    if code:
        raise RuntimeError(f"slcluster searchlight ended with exit code {code}")
    laps.lap("shutdown")
    return {"stages": laps.stages}


def independent_blocks(settings: dict[str, Any]) -> dict[str, Any]:
    """Every second block of a plan, on no cluster, begun together with the other process."""
    from searches import make_plan

    from slcluster.compute import compute_block

    plan = make_plan(settings, process_mask=settings["process_mask"])
    compute_block(plan, 0)
    wait_for_others(Path(settings["meeting"]), settings["number"], settings["n_processes"])
    mine = plan.heaviest_first[settings["number"] :: settings["n_processes"]]
    began, cpu_began = time.time(), time.process_time()
    for number in mine:
        compute_block(plan, number)
    return {"began": began, "ended": time.time(), "cpu_s": time.process_time() - cpu_began, "n": len(mine)}


def wait_for_others(folder: Path, number: int, n_processes: int) -> None:
    """Return when all processes have come here; an error where one stays away for minutes."""
    (folder / str(number)).touch()
    give_up = time.monotonic() + 300
    while len(list(folder.iterdir())) < n_processes:
        if time.monotonic() > give_up:
            raise TimeoutError(f"fewer than {n_processes} processes came to begin together")
        time.sleep(0.001)


def worker_blocks(settings: dict[str, Any]) -> dict[str, Any]:
    """All blocks of the same plan by a durable searchlight on worker processes that have computed before."""
    from searches import make_plan

    from slcluster.cluster import connect
    from slcluster.durable import drive

    plan = make_plan(settings, process_mask=settings["process_mask"])
    looks: list[float] = []

    def look(step: Any) -> None:
        if step.unit == "block":
            looks.append(time.time())

    with (
        connect("local", workers=settings["n_processes"], threads=1) as client,
        TemporaryDirectory(dir=Path(settings["store"]).parent) as scratch,
    ):
        client.run(_warm, settings, Path(__file__).parent)
        drive(plan, Path(scratch) / "result.zarr", resume=True, client=client, progress=look)
    # By one clock, which times that workers report are not.
    return {"began": looks[0], "ended": looks[-1]}


def _warm(settings: dict[str, Any], folder: Path) -> None:
    """Import and load on a worker what a block needs."""
    sys.path.insert(0, str(folder))
    from searches import make_plan

    from slcluster.compute import compute_block

    compute_block(make_plan(settings, process_mask=settings["process_mask"]), 0)


def first_block(settings: dict[str, Any]) -> dict[str, Any]:
    """The block that a run begins with where nothing is compiled: ``cache`` is an empty folder, or of others as fresh."""
    os.environ["NUMBA_CACHE_DIR"] = settings["cache"]
    from searches import make_plan

    from slcluster.compute import compute_block

    plan = make_plan(settings, block_centers=settings["block_centers"])
    first = plan.heaviest_first[0]
    wait_for_others(Path(settings["meeting"]), settings["number"], settings["n_processes"])
    times = []
    for _ in range(2):
        began, cpu_began = time.perf_counter(), time.process_time()
        compute_block(plan, first)
        times.append({"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu_began})
    return {"first": times[0], "second": times[1], "engine": plan.engine}


STAGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "command-line": command_line,
    "independent-blocks": independent_blocks,
    "worker-blocks": worker_blocks,
    "first-block": first_block,
}


def main() -> None:
    name, settings, report = sys.argv[1:]
    Path(report).write_text(json.dumps(STAGES[name](json.loads(settings))))


if __name__ == "__main__":
    main()
