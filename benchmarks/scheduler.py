"""What one block costs a Dask scheduler: CPU seconds and memory of its process, blocks that do nothing.

    python benchmarks/scheduler.py --out scheduler.json    (10,000 blocks, a minute)
    python benchmarks/scheduler.py --quick                 (a smoke test, its numbers mean nothing)

The scheduler is a process of its own, and so are two workers of one thread. The blocks go through the package's own
``dispatch`` with its windows, as those of an analysis do. Exits with 1 where a block was not computed or a target is
missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from measure import ONE_THREAD, about, machine, peak_rss_bytes, save, spread

BLOCKS = 10_000
CPU_TARGET_S = 2e-3
MEMORY_TARGET_BYTES = 100e6

#: Long enough for a cluster that a busy machine starts.
_PATIENCE_S = 120


def nothing(folder: str, number: int) -> None:
    """A block. A worker's mark says that it was there."""
    with open(f"{folder}/{os.getpid()}", "a") as file:
        file.write(f"{number}\n")


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a scheduler with two workers, and its process. All listen on loopback."""
    about_file = folder / "scheduler.json"
    loopback = ["--host", "127.0.0.1", "--port", "0"]
    scheduler = [
        "dask_scheduler",
        *loopback,
        "--no-dashboard",
        "--no-show",
        "--scheduler-file",
        str(about_file),
    ]
    worker = ["dask_worker", "--scheduler-file", str(about_file), "--host", "127.0.0.1", "--nthreads", "1"]
    worker += ["--no-dashboard", "--local-directory", str(folder), "--memory-limit", "0", "--no-nanny"]
    processes = [_start(scheduler, folder)]
    try:
        _wait_for(about_file, processes)
        processes += [_start(worker, folder) for _ in range(2)]
        yield json.loads(about_file.read_text())["address"], psutil.Process(processes[0].pid)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(_PATIENCE_S)


def _start(words: list[str], folder: Path) -> subprocess.Popen:
    here = str(Path(__file__).parent)  # where workers find the block
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{words[0]}", *words[1:]],
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for(file: Path, processes: list[subprocess.Popen]) -> None:
    give_up = time.monotonic() + _PATIENCE_S
    while not (file.exists() and file.stat().st_size):
        if time.monotonic() > give_up or any(process.poll() is not None for process in processes):
            raise RuntimeError("the scheduler did not start")
        time.sleep(0.05)


def measure_blocks(n_blocks: int, scratch_in: Path | None) -> dict[str, Any]:
    """A fresh scheduler, some blocks to warm it up, then all that count."""
    from distributed import Client

    from slcluster.dispatch import dispatch

    def compute(numbers: list[int]) -> None:
        dispatch(
            nothing, str(marks), numbers, name="blocks", client=client, advance=seen.append, failed=_never
        )

    with tempfile.TemporaryDirectory(dir=scratch_in) as scratch:
        folder, seen = Path(scratch), list[int]()
        marks = folder / "marks"
        marks.mkdir()
        with cluster(folder) as (address, process), Client(address) as client:
            client.wait_for_workers(2, timeout=_PATIENCE_S)
            compute(list(range(100)))
            before, cpu_before = process.memory_info().rss, _cpu_s(process)
            began = time.perf_counter()
            compute(list(range(100, 100 + n_blocks)))
            wall_s, cpu_s = time.perf_counter() - began, _cpu_s(process) - cpu_before
            peak = peak_rss_bytes(process.pid)
        done = {int(line) for file in marks.iterdir() for line in file.read_text().split()}
    return {
        "cpu_s_per_block": cpu_s / n_blocks,
        "wall_s_per_block": wall_s / n_blocks,
        "growth_bytes": max(0, peak - before),
        "peak_rss_bytes": peak,
        "is_complete": len(seen) == len(set(seen)) == len(done) == n_blocks + 100 and done == set(seen),
    }


def _never(number: int, error: Exception) -> None:
    raise error


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def missed(found: dict[str, Any], is_quick: bool) -> list[str]:
    """What a result falls short of. A few blocks say nothing about the cost of one."""
    misses = [] if found["is_complete"] else ["blocks that were not computed once each"]
    if not is_quick and found["cpu_s_per_block"]["median"] >= CPU_TARGET_S:
        misses.append("CPU of the scheduler")
    if found["growth_bytes"]["max"] >= MEMORY_TARGET_BYTES:
        misses.append("memory of the scheduler")
    return misses


def report(found: dict[str, Any], n_blocks: int) -> str:
    """For people."""
    cpu, wall, growth = (found[name] for name in ("cpu_s_per_block", "wall_s_per_block", "growth_bytes"))
    lines = [
        f"{n_blocks} blocks through dispatch, scheduler and two workers in processes of their own",
        f"scheduler's CPU a block       {cpu['median'] * 1e3:.2f} ms ({cpu['min'] * 1e3:.2f} to "
        f"{cpu['max'] * 1e3:.2f}), target below {CPU_TARGET_S * 1e3:g} ms",
        f"wall time a block             {wall['median'] * 1e3:.2f} ms",
        f"scheduler's memory grows by   {growth['max'] / 1e6:.0f} MB, target below {MEMORY_TARGET_BYTES / 1e6:.0f} MB",
        f"  to at most                  {found['peak_rss_bytes']['max'] / 1e6:.0f} MB",
        f"every block computed once     {'yes' if found['is_complete'] else 'NO'}",
    ]
    return "\n".join([*lines, *(f"MISSED: {miss}" for miss in found["missed"])])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    parser.add_argument("--quick", action="store_true", help="1,200 blocks, once")
    parser.add_argument("--repeat", type=int, default=3, help="fresh schedulers (default: 3)")
    parser.add_argument("--scratch", type=Path, help="folder for some small files (default: the system's)")
    given = parser.parse_args()
    n_blocks, repeat = (1_200, 1) if given.quick else (BLOCKS, given.repeat)
    result = about("scheduler", is_quick=given.quick, blocks=n_blocks, repeat=repeat)
    runs = [measure_blocks(n_blocks, given.scratch) for _ in range(repeat)]
    names = ("cpu_s_per_block", "wall_s_per_block", "growth_bytes", "peak_rss_bytes")
    result |= {name: asdict(spread(run[name] for run in runs)) for name in names}
    result |= {
        "is_complete": all(run["is_complete"] for run in runs),
        "runs": runs,
        "machine_after": machine(),
    }
    result["missed"] = missed(result, given.quick)
    print(report(result, n_blocks))
    save(result, given.out)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
