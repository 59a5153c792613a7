"""What every benchmark here measures with: fresh processes, laps, peak memory, and where it was measured.

Wall time on a shared machine is noisy, so CPU seconds stand beside it, rivals alternate, and ratios are
taken within a round. Resident memory counts pages that processes share once for each of them.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

__all__ = [
    "ONE_THREAD",
    "Laps",
    "Measured",
    "Spread",
    "about",
    "machine",
    "measure_process",
    "peak_rss_bytes",
    "save",
    "spread",
    "tree_cpu_s",
    "versions",
]

REPOSITORY = Path(__file__).resolve().parents[1]

#: BLAS and OpenMP would start a thread a core in every process, and rivals would share cores by chance.
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMBA_NUM_THREADS",
    ),
    "1",
)

#: Between two looks at a process tree. A look costs milliseconds, which the rivals pay alike.
_SAMPLE_S = 0.2

_PACKAGES = (
    "slcluster",
    "dask",
    "distributed",
    "isal",
    "joblib",
    "nibabel",
    "nilearn",
    "numcodecs",
    "numpy",
    "scikit-learn",
    "scipy",
    "xarray",
    "zarr",
)


def peak_rss_bytes(pid: int | None = None) -> int:
    """Peak resident bytes of a process (this one by default) since it was started; 0 if it has gone.

    Linux keeps it with the address space. ``ru_maxrss`` is not it there: a child inherits its parent's.
    Elsewhere this process's ``ru_maxrss`` is right, and another's present size is the best there is.
    """
    status = Path(f"/proc/{pid or os.getpid()}/status")
    with suppress(OSError):
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if pid is None and sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(psutil.Error):
        return psutil.Process(pid).memory_info().rss
    return 0


def tree_cpu_s(pid: int | None = None) -> float:
    """CPU seconds of a process and all its descendants, those it has waited for included."""
    total = 0.0
    for process in _tree(psutil.Process(pid)):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
            # macOS does not say what finished children used.
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Laps:
    """Wall and CPU seconds of one stage after another, of this process and its descendants.

    Attributes
    ----------
    stages : dict of str to {"wall_s": float, "cpu_s": float}
    """

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self._wall, self._cpu = time.perf_counter(), tree_cpu_s()

    def lap(self, stage: str) -> None:
        """End a stage that began at the lap before."""
        wall, cpu = time.perf_counter(), tree_cpu_s()
        self.stages[stage] = {"wall_s": wall - self._wall, "cpu_s": cpu - self._cpu}
        self._wall, self._cpu = time.perf_counter(), cpu


@dataclass
class Measured:
    """One process and its descendants, from start to exit.

    Attributes
    ----------
    wall_s, cpu_s : float
    tree_rss_bytes : int
        Largest sum of resident sizes over the tree that was seen.
    process_rss_bytes : int
        Peak of the largest single process.
    report : dict
        What the process itself reported.
    """

    wall_s: float
    cpu_s: float
    tree_rss_bytes: int
    process_rss_bytes: int
    report: dict[str, Any] = field(default_factory=dict)


class _Watch(threading.Thread):
    """Looks at a process tree now and then until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.tree_rss = self.process_rss = 0
        self._root = psutil.Process(pid)
        self._cpu: dict[int, float] = {}
        self._stop_now = threading.Event()

    def run(self) -> None:
        while not self._stop_now.is_set():
            self._look()
            self._stop_now.wait(_SAMPLE_S)

    def _look(self) -> None:
        total = 0
        for process in _tree(self._root):
            with suppress(psutil.Error):
                total += process.memory_info().rss
                times = process.cpu_times()
                self._cpu[process.pid] = times.user + times.system
                self.process_rss = max(self.process_rss, peak_rss_bytes(process.pid))
        self.tree_rss = max(self.tree_rss, total)

    def stop(self) -> float:
        """Stop; returns the CPU seconds of every process that was ever seen."""
        self._stop_now.set()
        self.join()
        return sum(self._cpu.values())


def measure_process(command: Sequence[str], *, timeout_s: float = 3600) -> Measured:
    """Run a command in a fresh process with one thread for BLAS and OpenMP, and watch it.

    Parameters
    ----------
    command : sequence of str
        Arguments to this Python: a script, then its own. The path of a JSON file that the script is to
        write its report to is appended.
    timeout_s : float
        Killed, with its descendants, after this long.

    Raises
    ------
    RuntimeError
        With the last lines of standard error, if the process failed or wrote no report.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, errors = Path(folder) / "report.json", Path(folder) / "stderr"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with errors.open("wb") as stderr:
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *command, str(report)],
                env={**os.environ, **ONE_THREAD},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
            watch = _Watch(process.pid)
            watch.start()
            try:
                process.wait(timeout_s)
            finally:
                if process.poll() is None:
                    _kill_tree(process)
                wall = time.perf_counter() - began
                seen_cpu = watch.stop()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode != 0 or not report.is_file():
            last = "\n".join(errors.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}:\n{last}")
        # Each misses something: what ran after the last look, and descendants that nobody waited for.
        waited_cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Measured(
            wall, max(seen_cpu, waited_cpu), watch.tree_rss, watch.process_rss, json.loads(report.read_text())
        )


def _kill_tree(process: subprocess.Popen) -> None:
    tree = []
    with suppress(psutil.NoSuchProcess):
        tree = _tree(psutil.Process(process.pid))
    for one in reversed(tree):
        with suppress(psutil.Error):
            one.kill()
    process.wait()
    psutil.wait_procs(tree, timeout=10)


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some repeats."""

    median: float
    min: float
    max: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.min:.3g} to {self.max:.3g})"


def spread(values: Iterable[float]) -> Spread:
    """The median of some repeats with their range."""
    found = list(values)
    return Spread(median(found), min(found), max(found))


def versions() -> dict[str, str]:
    """Versions of Python and of what is measured."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, memory and load now. No names of hosts or people."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model,
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": list(os.getloadavg()),
    }


def about(benchmark: str, **parameters: Any) -> dict[str, Any]:
    """The head of a result: what, of which commit, when, with what, and on which machine."""
    return {
        "benchmark": benchmark,
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": parameters,
        "versions": versions(),
        "machine": machine(),
        "threads_of_blas": 1,
    }


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(REPOSITORY), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "slcluster", "benchmarks")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def save(result: dict[str, Any], out: str | Path | None) -> None:
    """Write a result as JSON where ``out`` says, if it does."""
    if out is not None:
        path = Path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2, default=asdict) + "\n")
        print(f"\nsaved in {path}")
