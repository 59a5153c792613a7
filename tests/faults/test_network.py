"""Three hosts with TLS: a link that is cut for a minute, and a host that is lost for good."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import xarray as xr

import slcluster as slc
from tests.faults.driving import N_BLOCKS, count_done, same, wait_for
from tests.faults.hosts import SCHEDULER, WORKERS, Network, batch_system, network

#: 92 s of work, of which one worker has more than a minute left after the cut: the link heals while the run goes on.
PAUSE_S = 0.65
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
    return all(map(hosts.listening, WORKERS)) and count_done(folder / "out.zarr") >= 2


def ends_well(driver: subprocess.Popen[str], folder: Path, expected: xr.Dataset) -> None:
    code = driver.wait(timeout=300)
    log = (folder / "log").read_text()
    assert code == 0, log
    assert "the scheduler listens on tls://10.77.0.1:" in log
    assert "ended before its work was done; another is submitted" in log
    assert same(slc.open_result(folder / "out.zarr"), expected)
    assert not list((folder / "home" / "tls").iterdir()), "certificates outlive their run"


def cut_for_a_minute(hosts: Network, driver: subprocess.Popen[str], folder: Path) -> None:
    wait_for(partial(far_enough, driver, hosts, folder), timeout_s=300)
    hosts.pull("w1")
    time.sleep(CUT_S)
    hosts.plug("w1")
    assert driver.poll() is None, "the run ended before the link healed"


def lose_for_good(hosts: Network, driver: subprocess.Popen[str], folder: Path) -> None:
    wait_for(partial(far_enough, driver, hosts, folder), timeout_s=300)
    hosts.pull("w2")  # first, so that nobody hears of the end
    (folder / "batch" / "down-w2").touch()
    hosts.kill("w2")
    assert count_done(folder / "out.zarr") < N_BLOCKS


@pytest.mark.timeout(900)
def test_a_link_cut_for_a_minute_and_a_host_lost(
    store: Path, undisturbed: xr.Dataset, tmp_path: Path
) -> None:
    """Both at the same time, each in a network of its own: they wait more than they compute."""
    faults = {"cut": cut_for_a_minute, "lost": lose_for_good}
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        networks = {name: stack.enter_context(network(name)) for name in faults}
        runs = {
            name: (hosts, stack.enter_context(run_on(hosts, store, tmp_path / name)), tmp_path / name)
            for name, hosts in networks.items()
        }
        going_on = [pool.submit(fault, *runs[name]) for name, fault in faults.items()]
        for fault in going_on:
            fault.result()
        heard = [address for host in (SCHEDULER, *WORKERS) for address in networks["cut"].listening(host)]
        assert heard
        assert not [address for address in heard if set(address) == {"0"}], "somebody listens everywhere"
        for _, driver, folder in runs.values():
            ends_well(driver, folder, undisturbed)
