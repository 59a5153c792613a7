"""Three hosts with TLS: a link that is cut for a minute, and a host that is lost for good."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import xarray as xr

import slcluster as slc
from tests.faults.driving import N_BLOCKS, count_done, same, wait_for
from tests.faults.hosts import SCHEDULER, WORKERS, Network, batch_system, network

#: So that two workers have a minute to do, and one much more: the link heals while the run goes on.
PAUSE_S = 0.7
CUT_S = 60.0

ROOT = Path(__file__).parents[2]


@contextmanager
def run_on(hosts: Network, store: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """``slcluster searchlight`` on the scheduler's host, its workers as batch jobs on the two others."""
    folder.mkdir()
    commands = batch_system(hosts, folder / "batch")
    profile = folder / "slurm.yaml"
    profile.write_text("kind: slurm\nworkers: 2\nmemory: 1GB\nwalltime: 01:00:00\nstart_timeout: 5m\n")
    estimator = f"{{class: tests.faults.slow.Slow, params: {{log: {folder}/fits, pause_s: {PAUSE_S}}}}}"
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLCLUSTER_HOME": str(folder / "home"),
    }
    command = (
        *("ip", "netns", "exec", hosts.space(SCHEDULER), sys.executable, "-m", "slcluster", "searchlight"),
        *(str(store), "--out", str(folder / "out.zarr"), "--radius-mm", "5.5", "--block-centers", "2"),
        *("--scoring", "none", "--estimator", estimator, "--allow-import", "tests"),
        *("--cluster", str(profile)),
    )
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, cwd=folder, stderr=log, text=True) as driver,
    ):
        try:
            yield driver
        finally:
            driver.kill()


def far_enough(driver: subprocess.Popen[str], hosts: Network, folder: Path) -> bool:
    """Whether both workers are there, and some blocks."""
    assert driver.poll() is None, (folder / "log").read_text()
    return all(map(hosts.listening, WORKERS)) and count_done(folder / "out.zarr") >= 4


def ends_well(driver: subprocess.Popen[str], folder: Path, expected: xr.Dataset) -> None:
    code = driver.wait(timeout=300)
    log = (folder / "log").read_text()
    assert code == 0, log
    assert "the scheduler listens on tls://10.77.0.1:" in log
    assert "ended before its work was done; another is submitted" in log
    assert same(slc.open_result(folder / "out.zarr"), expected)
    assert not list((folder / "home" / "tls").iterdir()), "certificates outlive their run"


def listens_everywhere(address: str) -> bool:
    return set(address) == {"0"}


@pytest.mark.timeout(900)
def test_a_link_cut_for_a_minute_and_a_host_lost(
    store: Path, undisturbed: xr.Dataset, tmp_path: Path
) -> None:
    """Both at the same time, each in a network of its own: they wait more than they compute."""
    with ExitStack() as stack:
        cut, lost = (stack.enter_context(network(name)) for name in ("a", "b"))
        runs = {name: tmp_path / name for name in ("cut", "lost")}
        drivers = {
            name: stack.enter_context(run_on(hosts, store, runs[name]))
            for name, hosts in (("cut", cut), ("lost", lost))
        }
        for name, hosts in (("cut", cut), ("lost", lost)):
            wait_for(partial(far_enough, drivers[name], hosts, runs[name]), timeout_s=300)
        heard = [address for host in (SCHEDULER, *WORKERS) for address in cut.listening(host)]
        assert not any(map(listens_everywhere, heard)), heard
        cut.pull("w1")
        lost.pull("w2")
        (runs["lost"] / "batch" / "down-w2").touch()
        lost.kill("w2")
        assert max(count_done(folder / "out.zarr") for folder in runs.values()) < N_BLOCKS
        time.sleep(CUT_S)
        cut.plug("w1")
        assert drivers["cut"].poll() is None, "the run ended before the link healed"
        for name, driver in drivers.items():
            ends_well(driver, runs[name], undisturbed)
