"""Lineage: kept where the voxels are the store's, lost otherwise, and never claimed wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import slcluster as slc
from slcluster.errors import StoreError
from slcluster.store import (
    Source,
    open_source,
    open_store,
    select,
    source_of,
    subject_digest,
    write_array_store,
)
from tests.conftest import OBLIQUE

SHAPE = (9, 5, 4, 30)
CONDITIONS = ["face", "house", "rest"] * 10


def _data(seed: int = 0) -> xr.Dataset:
    bold = np.random.default_rng(seed).normal(size=SHAPE).astype("f4")
    return slc.subject_dataset(bold, affine=OBLIQUE, condition=CONDITIONS, run=np.repeat(range(3), 10))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_array_store(_data(), tmp_path_factory.mktemp("lineage") / "s.zarr")


def _is_told_truly(ds: xr.Dataset) -> bool:
    """Whether lineage is claimed; where it is, the store must hold exactly what ``ds`` holds."""
    source = source_of(ds)
    if source is None:
        return False
    values = open_source(source)["bold"].values[..., ds["sample_index"].values]
    np.testing.assert_array_equal(values, ds["bold"].values)
    return True


def test_the_source_names_the_whole_store(store: Path) -> None:
    ds = open_store(store)
    assert source_of(ds) == Source(str(store), subject_digest(store), SHAPE, "float32", 30)
    assert source_of(select(ds, runs=[1])) == source_of(ds)


KEPT = {
    "opened": lambda ds: ds,
    "condition replaced": lambda ds: ds.assign_coords(condition=("sample", ["x", "y"] * 15)),
    "run replaced": lambda ds: ds.assign_coords(run=("sample", np.arange(30))),
    "mask replaced": lambda ds: ds.assign(mask=~ds["mask"]),
    "selected": lambda ds: select(ds, conditions=["face", "house"]),
    "selected twice": lambda ds: select(select(ds, conditions=["face", "house"]), runs=[0, 2]),
    "selected, replaced, selected": lambda ds: select(
        select(ds, runs=[0, 1]).assign_coords(condition=("sample", ["p", "q"] * 10)), conditions=["q"]
    ),
    "sliced": lambda ds: ds.isel(sample=slice(4, 21)),
    "sliced in steps": lambda ds: ds.isel(sample=slice(1, 30, 3)),
    "taken by a mask": lambda ds: ds.isel(sample=np.flatnonzero(ds["condition"].values == "rest")),
    "permuted with its index": lambda ds: ds.isel(sample=np.random.default_rng(0).permutation(30)),
    "attributes": lambda ds: ds.assign_attrs(note="mine"),
}

LOST = {
    "mean subtracted": lambda ds: ds.assign(bold=ds["bold"] - ds["bold"].mean("sample")),
    "multiplied by one": lambda ds: ds.assign(bold=ds["bold"] * 1),
    "permuted without its index": lambda ds: ds.assign(
        bold=ds["bold"].variable.isel(sample=np.random.default_rng(0).permutation(30))
    ),
    "index replaced": lambda ds: ds.assign_coords(sample_index=ds["sample_index"][::-1]),
    "index of another selection": lambda ds: ds.isel(sample=slice(0, 10)).assign_coords(
        sample_index=("sample", np.arange(10, 20))
    ),
    "index nonsense": lambda ds: ds.assign_coords(sample_index=ds["sample_index"] - 5),
    "space cut": lambda ds: ds.isel(x=slice(1, 6)),
    "space mirrored": lambda ds: ds.isel(x=slice(None, None, -1)),
    "in memory": lambda ds: ds.load(),
    "another dtype": lambda ds: ds.assign(bold=ds["bold"].astype("f8")),
}


@pytest.mark.parametrize("name", KEPT)
def test_kept(store: Path, name: str) -> None:
    assert _is_told_truly(KEPT[name](open_store(store)))


@pytest.mark.parametrize("name", LOST)
def test_lost(store: Path, name: str) -> None:
    changed = LOST[name](open_store(store))
    assert source_of(changed) is None
    chosen = select(changed, conditions=["face"])
    assert source_of(chosen) is None
    np.testing.assert_array_equal(
        chosen["bold"].values, changed["bold"].values[..., changed["condition"].values == "face"]
    )


def test_a_selection_of_a_changed_array_holds_the_change(store: Path) -> None:
    ds = open_store(store)
    changed = ds.assign(bold=ds["bold"] - 7)
    np.testing.assert_array_equal(
        select(changed, runs=[2])["bold"].values, select(ds, runs=[2])["bold"].values - 7
    )


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("mask"), st.lists(st.booleans(), min_size=30, max_size=30)),
        st.tuples(st.just("slice"), st.tuples(st.integers(0, 9), st.integers(10, 30), st.integers(1, 3))),
        st.tuples(st.just("permute"), st.integers(0, 99)),
        st.tuples(st.just("select"), st.sampled_from([["face"], ["house", "rest"], ["face", "rest"]])),
        st.tuples(st.just("relabel"), st.integers(0, 99)),
        st.tuples(st.just("add"), st.integers(0, 1)),
        st.tuples(st.just("roll"), st.integers(0, 2)),
    ),
    max_size=4,
)


def _apply(ds: xr.Dataset, step: str, value: Any) -> xr.Dataset:
    n = ds.sizes["sample"]
    if step == "mask":
        return ds.isel(sample=np.array(value)[:n])
    if step == "slice":
        return ds.isel(sample=slice(*value))
    if step == "permute":
        return ds.isel(sample=np.random.default_rng(value).permutation(n))
    if step == "select":
        known = [name for name in value if name in ds["condition"].values]
        return select(ds, conditions=known) if known else ds
    if step == "relabel":
        return ds.assign_coords(
            condition=("sample", np.random.default_rng(value).permutation(ds["condition"].values))
        )
    if step == "add":
        return ds.assign(bold=ds["bold"] + value)
    return ds.assign(bold=ds["bold"].roll(sample=value, roll_coords=False))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
def test_no_chain_of_changes_makes_it_lie(store: Path, steps: list[tuple[str, Any]]) -> None:
    ds = open_store(store)
    for step, value in steps:
        changed = _apply(ds, step, value)
        if changed.sizes["sample"] == 0:
            break
        ds = changed
    told = _is_told_truly(ds)
    names = [step for step, _ in steps]
    if set(names) <= {"select", "relabel"}:
        assert told


def test_a_dataset_that_xarray_opened_is_not_taken_for_ours(store: Path) -> None:
    """Other chunks have other names: its arrays are used as they are, which is never wrong."""
    ds = xr.open_zarr(store)
    assert source_of(ds) is None or _is_told_truly(ds)


def test_nothing_on_disk_is_no_source() -> None:
    assert source_of(_data()) is None
    assert source_of(_data().chunk(x=2)) is None


def test_a_removed_store_is_no_source(tmp_path: Path) -> None:
    path = write_array_store(_data(), tmp_path / "s.zarr")
    ds = open_store(path)
    path.rename(tmp_path / "elsewhere.zarr")
    assert source_of(ds) is None


def test_a_store_written_again_is_noticed(tmp_path: Path) -> None:
    path = write_array_store(_data(), tmp_path / "s.zarr")
    ds = open_store(path)
    source = source_of(ds)
    assert source is not None
    write_array_store(_data(seed=1), path, overwrite=True)
    for look in (source_of, select):
        with pytest.raises(
            StoreError, match="was written again since this Dataset was opened; open it again"
        ):
            look(ds)  # type: ignore[operator]
    with pytest.raises(StoreError, match="was written again"):
        open_source(source)
    assert source_of(open_store(path)) is not None


def test_relative_paths_and_links_are_one_store(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.parent)
    (tmp_path / "link.zarr").symlink_to(store)
    for path in (store.name, tmp_path / "link.zarr", str(store)):
        assert source_of(open_store(path)) == source_of(open_store(store))
