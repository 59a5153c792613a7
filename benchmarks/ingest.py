"""What ingest costs: CPU seconds against the bare work, and peak memory, on simulated volumes.

    python benchmarks/ingest.py --out ingest.json          (about five minutes, 2 GB of scratch)
    python benchmarks/ingest.py --quick                    (seconds; a smoke test, its numbers mean nothing)

The bare work is another process that inflates the same file with the same reader, cuts the same bricks and
compresses them with the same codec, and does nothing else: no hashing, no mean, no files. Each measurement is
a process of its own; the CPU seconds of one that only imports the same modules are subtracted from both. Runs
are interleaved and medians taken. Peak memory is the high-water mark of the ingesting process, imports and
all. Exits with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

MODULES = ("slcluster", "numpy", "zarr", "numcodecs", "google-crc32c", "xarray", "dask", "nibabel", "isal")
PEAK_TARGET = 512e6

#: name: shape, dtype, whether there are zeros outside the brain, CPU target over the bare work
CASES: dict[str, tuple[tuple[int, int, int, int], str, bool, float]] = {
    "haxby int16": ((40, 64, 64, 1452), "<i2", False, 2.5),
    "haxby float32": ((40, 64, 64, 1452), "<f4", False, 2.0),
    "hcp float32": ((91, 109, 91, 1200), "<f4", True, 2.0),
}
QUICK: dict[str, tuple[tuple[int, int, int, int], str, bool, float]] = {
    "quick int16": ((20, 33, 17, 120), "<i2", False, np.inf),
    "quick float32": ((20, 33, 17, 120), "<f4", True, np.inf),
}


def simulate(path: Path, shape: tuple[int, int, int, int], dtype: str, is_zero_outside: bool) -> np.ndarray:
    """Write a ``.nii.gz`` volume by volume and return its mean (nx, ny, nz): about 900 in the 25 % brain, sd 14."""
    import nibabel as nib
    from isal import igzip

    nx, ny, nz, n_samples = shape
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in (nz, ny, nx)), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    brain = radius <= np.quantile(radius, 0.25)
    rng = np.random.default_rng(0)
    base = np.where(brain, rng.normal(900, 60, brain.shape), 60).astype("f4")
    header = nib.Nifti1Header()
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(shape)
    header.set_sform(np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    total = np.zeros(brain.shape)
    with igzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(n_samples):
            volume = base + np.float32(14) * rng.standard_normal(brain.shape, dtype="f4")
            if is_zero_outside:
                volume[~brain] = 0
            stored = volume.astype(dtype)
            total += stored
            file.write(stored.tobytes())
    return (total / n_samples).T


# ------------------------------------------------------------------------------------------------
# Processes that are measured. Each prints one JSON object.
# ------------------------------------------------------------------------------------------------


def import_all() -> None:
    """Everything that ingest and the bare work import, so that neither pays for it while it is timed."""
    import dask.array
    import google_crc32c
    import nibabel
    import pandas
    import xarray
    import zarr
    from isal import igzip
    from numcodecs import blosc

    import slcluster
    import slcluster.store

    assert all((dask.array, google_crc32c, nibabel, pandas, xarray, zarr, igzip, blosc, slcluster.ingest))


def child_imports() -> dict[str, Any]:
    import_all()
    return {}


def child_ours(bold: str, store: str) -> dict[str, Any]:
    """Ingest as a user calls it; the parts are CPU seconds inside its own functions."""
    import slcluster
    from slcluster import store as stores
    from slcluster.io.nifti import read_header
    from slcluster.io.volumes import VolumeReader
    from slcluster.store.writer import SubjectWriter

    import_all()
    parts: dict[str, float] = defaultdict(float)
    _time_method(VolumeReader, "read_values", "inflate, hash", parts)
    _time_method(SubjectWriter, "write", "cut, compress, write", parts)
    _time_method(SubjectWriter, "finish", "metadata, digest", parts)
    mask = np.ones(read_header(bold).shape[:3], bool)
    begun = time.process_time()
    ds = slcluster.ingest(bold, store, mask=mask)
    parts["sums, opening, rest"] = time.process_time() - begun - sum(parts.values())
    bricks = ds["bold"].encoding["chunks"]
    return {"parts": dict(parts), "n_slab": int(bricks[3]), "digest": stores.subject_digest(store)}


def _time_method(owner: type, name: str, part: str, parts: dict[str, float]) -> None:
    method: Callable[..., Any] = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        begun = time.process_time()
        try:
            return method(*args, **kwargs)
        finally:
            parts[part] += time.process_time() - begun

    setattr(owner, name, timed)


def child_bare(bold: str, n_slab: int, shape: tuple[int, int, int, int], dtype: str) -> dict[str, Any]:
    """Inflate with the same reader, compress the same bricks with the same codec; nothing else."""
    import google_crc32c
    from isal import igzip
    from numcodecs.blosc import BITSHUFFLE, Blosc

    from slcluster.store.shard import CLEVEL, CNAME, iter_bricks

    import_all()
    nx, ny, nz, n_samples = shape
    slab = np.empty((n_slab, nz, ny, nx), dtype)
    codec = Blosc(CNAME, CLEVEL, BITSHUFFLE)
    brick = (min(8, nx), min(8, ny), min(8, nz), n_slab)
    parts: dict[str, float] = defaultdict(float)
    with open(bold, "rb", buffering=0) as file:
        reader = igzip._GzipReader(file, 512 * 1024)
        _fill(reader, memoryview(bytearray(352)))
        for start in range(0, n_samples, n_slab):
            filled = slab[: min(n_slab, n_samples - start)]
            begun = time.process_time()
            _fill(reader, filled.reshape(-1).view(np.uint8).data)
            inflated = time.process_time()
            for _, values in iter_bricks(filled.T, brick):
                if values[..., 0].any() or values.any():
                    google_crc32c.value(codec.encode(values))
            parts["inflate"] += inflated - begun
            parts["cut, compress"] += time.process_time() - inflated
    return {"parts": dict(parts)}


def _fill(reader: Any, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        got = reader.readinto(buffer[done:])
        if not got:
            raise EOFError("the file ended early")
        done += got


def run_child(what: str, arguments: list[str]) -> None:
    """Entry point of a measured process."""
    if what == "imports":
        result = child_imports()
    elif what == "ours":
        result = child_ours(*arguments)
    else:
        bold, n_slab, shape, dtype = arguments
        nx, ny, nz, n_samples = map(int, shape.split(","))
        result = child_bare(bold, int(n_slab), (nx, ny, nz, n_samples), dtype)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps(result | {"cpu_s": used.ru_utime + used.ru_stime, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """Peak resident memory of this process alone; rusage counts what its parent had when it forked."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS, in bytes
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


# ------------------------------------------------------------------------------------------------
# Measuring
# ------------------------------------------------------------------------------------------------


def call(what: str, *arguments: object) -> dict[str, Any]:
    """Run one measured process."""
    command = [sys.executable, __file__, "--child", what, *map(str, arguments)]
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(done.stdout), "wall_s": time.perf_counter() - begun}


def measure(name: str, case: tuple[Any, str, bool, float], scratch: Path, repeat: int) -> dict[str, Any]:
    """All processes of one case, interleaved ``repeat`` times."""
    shape, dtype, is_zero_outside, target = case
    bold, store = scratch / "bold.nii.gz", scratch / "bold.zarr"
    print(f"{name}: simulating {shape} {dtype}", file=sys.stderr, flush=True)
    mean = simulate(bold, shape, dtype, is_zero_outside)
    runs: dict[str, list[dict[str, Any]]] = {"imports": [], "ours": [], "bare": []}
    for n in range(repeat):
        print(f"{name}: round {n + 1} of {repeat}", file=sys.stderr, flush=True)
        runs["imports"].append(call("imports"))
        runs["ours"].append(call("ours", bold, store))
        check(store, mean)
        store_bytes = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
        remove(store)
        n_slab = runs["ours"][0]["n_slab"]
        runs["bare"].append(call("bare", bold, n_slab, ",".join(map(str, shape)), dtype))
    file_bytes = bold.stat().st_size
    bold.unlink()
    imports_s = median(runs["imports"], "cpu_s")
    ours_s, bare_s = (median(runs[kind], "cpu_s") - imports_s for kind in ("ours", "bare"))
    peak = max(run["peak_bytes"] for run in runs["ours"])
    return {
        "case": name,
        "shape": shape,
        "dtype": np.dtype(dtype).name,
        "file_bytes": file_bytes,
        "store_bytes": store_bytes,
        "samples_per_slab": n_slab,
        "imports_cpu_s": imports_s,
        "ours_cpu_s": ours_s,
        "bare_cpu_s": bare_s,
        "ratio": ours_s / bare_s,
        "ratio_target": target if np.isfinite(target) else None,
        "peak_bytes": peak,
        "peak_target_bytes": PEAK_TARGET,
        "ours_wall_s": median(runs["ours"], "wall_s"),
        "ours_parts_cpu_s": medians_of_parts(runs["ours"]),
        "bare_parts_cpu_s": medians_of_parts(runs["bare"]),
        "is_met": bool(ours_s / bare_s <= target and peak < PEAK_TARGET),
        "runs": runs,
    }


def check(store: Path, mean: np.ndarray) -> None:
    """The store holds what was simulated, as far as its mean tells."""
    from slcluster import open_store

    np.testing.assert_allclose(open_store(store)["mean"].values, mean, rtol=1e-5, atol=1e-3)


def remove(store: Path) -> None:
    import shutil

    shutil.rmtree(store)


def median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def medians_of_parts(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {part: statistics.median(run["parts"][part] for run in runs) for part in runs[0]["parts"]}


# ------------------------------------------------------------------------------------------------
# Telling
# ------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    model = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in MODULES},
    }


def table(results: list[dict[str, Any]]) -> str:
    """The results as text, with their parts below."""
    rows = [("case", "CPU ours s", "CPU bare s", "ratio", "target", "peak MB", "wall s", "samples/slab", "")]
    for r in results:
        target = "-" if r["ratio_target"] is None else f"{r['ratio_target']:.1f}"
        numbers = [f"{r[key]:.2f}" for key in ("ours_cpu_s", "bare_cpu_s", "ratio")]
        rest = [f"{r['peak_bytes'] / 1e6:.0f}", f"{r['ours_wall_s']:.1f}", str(r["samples_per_slab"])]
        rows.append((r["case"], *numbers, target, *rest, "ok" if r["is_met"] else "MISSED"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    for r in results:
        for who in ("ours", "bare"):
            parts = ", ".join(f"{part}: {s:.2f}" for part, s in r[f"{who}_parts_cpu_s"].items())
            lines.append(f"{r['case']}, {who}, CPU s of {parts}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    parser.add_argument("--quick", action="store_true", help="small volumes, one round, no targets")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--scratch", type=Path, help="folder for 2 GB of files (default: the system's)")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(arguments.child[0], arguments.child[1:])
        return 0
    cases, repeat = (QUICK, 1) if arguments.quick else (CASES, arguments.repeat)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        results = [measure(name, case, Path(scratch), repeat) for name, case in cases.items()]
    print(table(results))
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": machine(), "results": results}, indent=1) + "\n")
    return 0 if all(result["is_met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
