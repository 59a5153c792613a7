"""The body of one task: repeated, cut in parts, alone, given up."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.naive_bayes import GaussianNB

import slcluster as slc
from slcluster import compute, task
from slcluster.archive import create
from slcluster.compute import compute_block, read_slab
from slcluster.errors import BlockError
from slcluster.searchlight import resume
from slcluster.store import open_store, write_array_store
from slcluster.store.attempts import attempting
from slcluster.store.result import read_result_attrs
from slcluster.task import Work, store_block
from tests.conftest import OBLIQUE
from tests.faults.driving import same
from tests.witness import noise_dataset

OPTIONS: dict[str, Any] = {"radius_mm": 5.5, "estimator": GaussianNB(), "block_centers": 20}


@pytest.fixture
def ds(tmp_path: Path) -> xr.Dataset:
    return open_store(write_array_store(noise_dataset(affine=OBLIQUE), tmp_path / "subject.zarr"))


@pytest.fixture
def work(ds: xr.Dataset, tmp_path: Path) -> Work:
    """A plan of three blocks, and a result store of which nothing is done."""
    plan, out = slc.plan(ds, **OPTIONS), tmp_path / "out.zarr"
    create(plan, out)
    return Work(plan, str(out), read_result_attrs(out)["store_id"])


@pytest.mark.parametrize(("n_marks", "n_parts"), [(0, 1), (1, 4), (2, 16), (3, 20)])
def test_a_block_that_took_workers_along_is_cut_in_parts(
    n_marks: int, n_parts: int, work: Work, ds: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def compute(plan: Any, number: int, *, n_parts: int) -> Any:
        asked.append(n_parts)
        return compute_block(plan, number, n_parts=n_parts)

    monkeypatch.setattr(task, "compute_block", compute)
    with ExitStack() as marks:
        for _ in range(n_marks):
            marks.enter_context(attempting(work.path, 0))
        for number in range(3):
            store_block(work, number)
    assert asked == [n_parts, 1, 1], "as many as it has centers at most, and no other block"
    assert same(resume(work.path), slc.searchlight(ds, **OPTIONS).compute())


def test_a_block_that_took_four_workers_along_is_given_up(work: Work) -> None:
    with ExitStack() as marks:
        for _ in range(task.MAX_LOST):
            marks.enter_context(attempting(work.path, 0))
        with pytest.raises(
            BlockError, match="^array, block 0: the 4 workers that computed it died, .* in 20 parts: "
        ):
            store_block(work, 0)
    store_block(work, 1)


def test_the_gate_lets_one_in_alone() -> None:
    gate, inside, told = task._Gate(), [], []

    def pass_through(alone: bool) -> None:
        with gate.passed(alone=alone):
            inside.append(alone)
            time.sleep(0.01)
            told.append((alone, list(inside)))
            inside.remove(alone)

    threads = [threading.Thread(target=pass_through, args=(k % 3 == 0,)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert len(told) == 12
    assert all(others == [True] for alone, others in told if alone)
    assert any(len(others) > 1 for alone, others in told if not alone)


def test_the_gate_opens_after_an_error() -> None:
    gate = task._Gate()
    for alone in (True, False):
        with pytest.raises(ValueError), gate.passed(alone=alone):
            raise ValueError
    with gate.passed(alone=True):
        pass


class _Hungry(GaussianNB):
    """Meets the memory limit once."""

    n_fits = 0

    def fit(self, X: Any, y: Any) -> Any:
        _Hungry.n_fits += 1
        if _Hungry.n_fits == 1:
            raise MemoryError
        return super().fit(X, y)


def test_what_did_not_fit_has_gone_when_the_parts_are_computed(
    ds: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slabs: list[Any] = []
    n_alive: list[int] = []

    class Slab(np.ndarray):
        """Ordinary arrays cannot be referred to weakly."""

    def read(*arguments: Any) -> Any:
        n_alive.append(sum(slab() is not None for slab in slabs))
        slab = read_slab(*arguments).view(Slab)
        slabs.append(weakref.ref(slab))
        return slab

    plan, out = slc.plan(ds, **{**OPTIONS, "estimator": _Hungry()}), tmp_path / "hungry.zarr"
    create(plan, out)
    monkeypatch.setattr(compute, "read_slab", read)
    gc.disable()  # it would run at some time or other
    try:
        store_block(Work(plan, str(out), read_result_attrs(out)["store_id"]), 0)
    finally:
        gc.enable()
    assert n_alive == [0] * 5, "the whole, and four parts"
