"""Stores of arrays of any origin."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import slcluster as slc
from slcluster.errors import SchemaError
from slcluster.store import open_store, select, source_of, subject_digest, write_array_store
from tests.conftest import OBLIQUE
from tests.files import full_mask, numbers, write_nifti

SHAPE = (17, 9, 10, 24)


def _dataset(bold: object, **options: object) -> xr.Dataset:
    return slc.subject_dataset(bold, affine=OBLIQUE, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["i2", "u1", "i8", "f4", "f8", ">i2", "f2"])
@pytest.mark.parametrize("chunks", [None, (8, 8, 8, 24), (3, 9, 4, 24), (17, 9, 10, 1), (5, 4, 10, 7)])
def test_any_dtype_and_chunks(tmp_path: Path, dtype: str, chunks: tuple[int, ...] | None) -> None:
    values = np.random.default_rng(0).normal(20, 9, SHAPE).astype(dtype)
    bold = values if chunks is None else da.from_array(values, chunks=chunks)
    ds = open_store(write_array_store(_dataset(bold), tmp_path / "s.zarr"))
    assert ds["bold"].dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(ds["bold"].values, values)
    assert source_of(ds) is not None


def test_a_changed_store_is_written_as_changed(tmp_path: Path) -> None:
    bold = write_nifti(tmp_path / "bold.nii.gz", numbers(), scale=(0.5, 1.0))
    ds = slc.ingest(bold, tmp_path / "s.zarr", mask=full_mask(), subject="anna")
    changed = select(ds, where=np.arange(30) % 3 > 0).isel(x=slice(1, None), z=slice(None, None, 2))
    changed = changed.assign(bold=changed["bold"] - changed["bold"].mean("sample"))
    written = open_store(write_array_store(changed, tmp_path / "changed.zarr"))
    np.testing.assert_array_equal(written["bold"].values, changed["bold"].values)
    for name in ("x", "y", "z", "affine", "condition", "run", "mask", "mean"):
        np.testing.assert_array_equal(written[name].values, changed[name].values)
    assert written["sample_index"].values.tolist() == list(range(20))
    assert written.attrs["subject"] == "anna"
    assert written.attrs["sform"] == ds.attrs["sform"]
    np.testing.assert_array_equal(slc.schema.grid_affine(written), slc.schema.grid_affine(changed))


def test_nonfinite_is_of_what_was_written(tmp_path: Path) -> None:
    values = np.ones(SHAPE, "f4")
    values[3, 4, 5, 6] = np.nan
    ds = _dataset(values)
    fixed = ds.assign(bold=ds["bold"].fillna(0.0))
    assert ds["nonfinite"].values.sum() == 1
    assert open_store(write_array_store(ds, tmp_path / "nan.zarr"))["nonfinite"].values.sum() == 1
    assert open_store(write_array_store(fixed, tmp_path / "fixed.zarr"))["nonfinite"].values.sum() == 0
    broken = _dataset(np.ones(SHAPE, "f4"))
    broken = broken.assign(bold=broken["bold"].where(broken["x"] != 2, np.inf))
    written = open_store(write_array_store(broken, tmp_path / "inf.zarr"))
    assert written["nonfinite"].values.sum() == written["nonfinite"].values[2].sum() == 90


def test_the_digest_knows_the_voxels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=SHAPE)
    one, same, other = (
        write_array_store(_dataset(v), tmp_path / f"{n}.zarr")
        for n, v in enumerate([values, values, -values])
    )
    assert subject_digest(one) == subject_digest(same) != subject_digest(other)


@pytest.mark.parametrize("chunks", [(8, 8, 8, 24), (17, 9, 10, 6)])
def test_every_dask_chunk_is_computed_once(
    tmp_path: Path, chunks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small enough that shards the other way round would take parts of many chunks.
    monkeypatch.setattr("slcluster.store.arrays.OPEN_CHUNK_BYTES", 8**3 * 24 * 8)
    seen: Counter[object] = Counter()

    def note(block: np.ndarray, block_info: dict = {}) -> np.ndarray:  # noqa: B006
        seen[str(block_info[0]["chunk-location"])] += 1
        return block

    values = np.random.default_rng(0).normal(size=SHAPE)
    ds = _dataset(values)
    noted = da.from_array(values, chunks=chunks).map_blocks(note, dtype=values.dtype, meta=np.empty((0,) * 4))
    write_array_store(ds.assign(bold=(ds["bold"].dims, noted)), tmp_path / "s.zarr")
    assert set(seen.values()) == {1}


def test_odd_attributes_become_text_or_numbers(tmp_path: Path) -> None:
    ds = _dataset(np.zeros(SHAPE, "f4")).assign_attrs(
        n=np.float64(2.5), where=np.arange(3), odd={1, 2}, path=tmp_path
    )
    attrs = open_store(write_array_store(ds, tmp_path / "s.zarr")).attrs
    assert (attrs["n"], attrs["where"], attrs["path"]) == (2.5, [0, 1, 2], str(tmp_path))
    assert attrs["odd"] == "{1, 2}"


def test_what_is_no_subject_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="bold"):
        write_array_store(xr.Dataset({"a": ("t", [1])}), tmp_path / "s.zarr")
    assert list(tmp_path.iterdir()) == []


def test_memory_is_bounded(tmp_path: Path) -> None:
    """1 GB of voxels that Dask makes chunk by chunk pass through in less than half of it."""
    code = """
        import sys
        import dask.array as da, numpy as np, slcluster as slc
        from slcluster.store import write_array_store
        from tests.files import peak_bytes
        bold = da.ones((64, 64, 32, 1024), chunks=(16, 16, 16, 1024))
        ds = slc.subject_dataset(bold, affine=np.eye(4))
        write_array_store(ds, sys.argv[1])
        print(peak_bytes())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "s.zarr")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert int(done.stdout) < 500e6
