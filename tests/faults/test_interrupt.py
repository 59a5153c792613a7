"""Ctrl-C, and looking at an analysis while another process computes it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import xarray as xr

import slcluster as slc
from slcluster.progress import Step
from slcluster.store.lease import read_lease
from tests.faults.driving import N_BLOCKS, analyse, count_done, in_threads, same, started, wait_for
from tests.faults.slow import fits


def _noting(store: Path, out: Path, log: Path) -> None:
    """Write down what a user would read."""
    try:
        in_threads(store, out, log)
    except KeyboardInterrupt as stop:
        Path(f"{log}.notes").write_text("\n".join(stop.__notes__))


def test_ctrl_c(store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    with started(_noting, store, out, log) as driver:
        wait_for(lambda: count_done(out) >= 3)
        os.killpg(driver.pid, signal.SIGINT)
        driver.join(60)
        assert driver.exitcode == 0
    assert Path(f"{log}.notes").read_text() == f"Finished blocks are kept; to go on: slcluster resume {out}"
    assert read_lease(out) is None
    left = slc.status(out)
    assert 3 <= left.n_done < N_BLOCKS
    assert str(left).splitlines()[1:] == [
        f"  array: interrupted, {left.n_done} of {N_BLOCKS} blocks done",
        f"  to go on: slcluster resume {out}",
    ]
    n_before = fits(log).total()
    assert same(analyse(store, out, log), undisturbed)
    assert fits(log).total() - n_before <= (N_BLOCKS - left.n_done) * 6


def test_status_while_it_is_computed_elsewhere(store: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    with started(in_threads, store, out, log) as driver:
        wait_for(lambda: count_done(out) >= 3)
        during, half = slc.status(out), slc.open_result(out)
        driver.join(60)
    assert (during.is_finished, during.n_blocks, during.n_centers) == (False, N_BLOCKS, 47)
    assert 3 <= during.n_done < N_BLOCKS
    assert (during.holder or "").startswith(f"process {driver.pid} on ")
    assert during.blocks_per_s is not None
    assert during.seconds_left == pytest.approx((N_BLOCKS - during.n_done) / during.blocks_per_s)
    assert f"array: running, {during.n_done} of {N_BLOCKS} blocks done" in str(during)
    assert "blocks/s, about" in str(during)
    assert during.n_done <= half.attrs["n_blocks_done"] < N_BLOCKS
    assert half["score"].isnull().sum() > 60 - 47
    after = slc.status(out)
    assert (after.is_finished, after.n_done, after.holder, after.blocks_per_s) == (True, N_BLOCKS, None, None)
    assert str(after) == f"{out}\n  array: finished, {N_BLOCKS} of {N_BLOCKS} blocks done"


def test_the_rate_leaves_out_what_was_done_before(store: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    seen = []

    def look(step: Step) -> None:
        seen.append(slc.status(out))
        if len(seen) == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse(store, out, log, progress=look)
    steps: list[Step] = []
    seen.clear()

    def look_again(step: Step) -> None:
        steps.append(step)
        seen.append(slc.status(out))

    analyse(store, out, log, progress=look_again)
    n_before = steps[0].done
    first = next(found for found in seen if found.blocks_per_s)
    assert first.n_done > n_before >= 10
    assert first.blocks_per_s * first.seconds_running == pytest.approx(first.n_done - n_before)
