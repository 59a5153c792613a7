"""Opening, selecting, and reading windows of subject stores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sklearn.preprocessing import LabelEncoder

import slcluster as slc
from slcluster.errors import DesignError, InputError, StoreError
from slcluster.schema import SUBJECT, validate
from slcluster.store import open_store, read_window, select, write_array_store
from slcluster.store.digest import write_digest
from tests.conftest import OBLIQUE
from tests.files import full_mask, numbers, write_nifti

SHAPE = (17, 9, 10, 24)
CONDITIONS = ["face", "house", "rest"] * 8
RUNS = np.repeat([0, 1, 2], 8)


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    mask = np.zeros(SHAPE[:3], bool)
    mask[2:15, 1:8, 3:9] = True
    return slc.subject_dataset(
        np.random.default_rng(0).normal(size=SHAPE).astype("f4"),
        affine=OBLIQUE,
        mask=mask,
        condition=CONDITIONS,
        run=RUNS,
        subject="anna",
        reaction_time=np.linspace(0, 1, SHAPE[3]),
        note=["é", ""] * 12,
    )


@pytest.fixture(scope="module")
def store(data: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_array_store(data, tmp_path_factory.mktemp("subject") / "anna.zarr")


def test_what_was_written_is_read(data: xr.Dataset, store: Path) -> None:
    ds = validate(open_store(store), SUBJECT)
    for name in data.variables:
        np.testing.assert_array_equal(ds[name].values, data[name].values, err_msg=str(name))
    assert set(ds.coords) == set(data.coords)
    assert ds.attrs["subject"] == "anna"
    assert ds["bold"].chunks is not None
    assert all(ds[name].chunks is None for name in ds.variables if name != "bold")


def test_xarray_opens_it_without_a_word(store: Path) -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('error')\n"
        "import xarray as xr; ds = xr.open_zarr(sys.argv[1]); ds.load()\n"
        "print(sorted(ds.coords), sorted(ds.data_vars))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""
    coords = ["affine", "condition", "note", "reaction_time", "run", "sample_index", "x", "y", "z"]
    assert done.stdout.strip() == f"{coords} {['bold', 'mask', 'mean', 'nonfinite']}"


def test_chunks_are_all_samples_and_whole_bricks_near_64_megabytes(tmp_path: Path) -> None:
    shape = (40, 64, 64, 600)
    ds = slc.subject_dataset(np.zeros(shape, "f4"), affine=OBLIQUE)
    opened = open_store(write_array_store(ds, tmp_path / "big.zarr"))["bold"]
    assert opened.chunks is not None
    assert len(opened.chunks[3]) == 1
    largest = [max(sizes) for sizes in opened.chunks]
    assert all(size % 8 == 0 or size == whole for size, whole in zip(largest[:3], shape, strict=False))
    assert 25e6 < np.prod(largest) * 4 < 75e6


def test_bad_stores_say_what_they_are(store: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.zarr"
    xr.Dataset({"a": ("t", [1.0, 2.0])}).to_zarr(foreign, zarr_format=3, consolidated=False)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name, message in {
        "none.zarr": "no store at .*none.zarr; write one with slcluster.ingest",
        "file": "no store at",
        "folder": "folder is not a slcluster store",
        "foreign.zarr": "foreign.zarr is not a slcluster store",
    }.items():
        with pytest.raises(StoreError, match=message) as caught:
            open_store(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"schema_version": 99}, "schema version 99, this slcluster knows 1; upgrade slcluster"),
        ({"slcluster": "result"}, "is a result store; expected a subject store"),
    ],
)
def test_other_versions_and_kinds(
    data: xr.Dataset, tmp_path: Path, attrs: dict[str, object], message: str
) -> None:
    path = write_array_store(data, tmp_path / "other.zarr")
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"] |= attrs
    (path / "zarr.json").write_text(json.dumps(root))
    write_digest(path)
    with pytest.raises(StoreError, match=message):
        open_store(path)


def test_select_combines_with_and(data: xr.Dataset) -> None:
    where = np.arange(24) % 2 == 0
    for ds in (data, data.assign(bold=data["bold"].chunk(x=8))):
        chosen = select(
            ds, conditions=["face", "house"], runs=[0, 2], where=xr.DataArray(where, dims="sample")
        )
        expected = [i for i in range(24) if CONDITIONS[i] != "rest" and RUNS[i] != 1 and where[i]]
        assert chosen["sample_index"].values.tolist() == expected
        np.testing.assert_array_equal(chosen["bold"].values, data["bold"].values[..., expected])
        assert select(ds, conditions="face").sizes["sample"] == 8
        assert select(ds).identical(ds)


def test_select_names_what_occurs(data: xr.Dataset) -> None:
    with pytest.raises(
        DesignError, match="condition 'faces' does not occur; those that do: 'face', 'house', 'rest'"
    ):
        select(data, conditions=["faces", "house"])
    with pytest.raises(DesignError, match="run 7 does not occur; those that do: 0, 1, 2"):
        select(data, runs=[0, 7])
    with pytest.raises(DesignError, match="conditions is empty; name some of"):
        select(data, conditions=[])
    with pytest.raises(DesignError, match="no sample is left"):
        select(data, conditions=["face"], where=np.array(CONDITIONS) == "rest")
    with pytest.raises(InputError, match=r"where must be 24 booleans.*int64, shape \(2,\)"):
        select(data, where=np.array([1, 2]))


def test_windows_are_slices_of_the_whole(data: xr.Dataset, store: Path) -> None:
    whole = data["bold"].values
    for box in [(slice(0, 17), slice(0, 9), slice(0, 10)), (slice(7, 9), slice(8, 9), slice(0, 1))]:
        np.testing.assert_array_equal(read_window(store, box), whole[box])
        np.testing.assert_array_equal(read_window(store, box, slice(5, 11)), whole[(*box, slice(5, 11))])


def test_windows_of_integers_are_raw_unless_scaled(tmp_path: Path) -> None:
    stored, box = numbers(), (slice(1, 4), slice(2, 9), slice(0, 5))
    for name, scale, dtype in [("raw", None, "int16"), ("scaled", (0.25, 3.0), "float64")]:
        bold = write_nifti(tmp_path / f"{name}.nii.gz", stored, scale=scale)
        ds = slc.ingest(bold, tmp_path / f"{name}.zarr", mask=full_mask())
        window = read_window(tmp_path / f"{name}.zarr", box)
        assert window.dtype == ds["bold"].dtype == dtype
        np.testing.assert_array_equal(window, ds["bold"].values[box])


def test_a_window_of_a_store_written_again_is_the_new_one(data: xr.Dataset, tmp_path: Path) -> None:
    box = (slice(0, 2), slice(0, 2), slice(0, 2))
    path = write_array_store(data, tmp_path / "s.zarr")
    first = read_window(path, box)
    changed = data.assign(bold=data["bold"].astype("f8").isel(sample=slice(0, 24)) * 2)
    write_array_store(changed, path, overwrite=True)
    np.testing.assert_array_equal(read_window(path, box), first * 2.0)


def test_a_window_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot read voxels"):
        read_window(tmp_path / "none.zarr", (slice(0, 1),) * 3)


def test_text_is_of_a_width_that_others_know(tmp_path: Path) -> None:
    names = ["face", "größer", "rest"]
    ds = slc.subject_dataset(
        np.zeros((2, 3, 4, 3), "f4"), affine=np.diag([2.0, 3.0, 4.0, 1.0]), condition=names
    )
    opened = open_store(write_array_store(ds, tmp_path / "s.zarr"))
    for one in (ds, opened):
        assert one["condition"].dtype.kind == "U"
        assert LabelEncoder().fit(one["condition"].values).classes_.tolist() == names
