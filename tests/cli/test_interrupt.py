"""Stopping a run: Ctrl-C in a terminal, signals to a process, and what is left. Progress in terminals and pipes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import slcluster as slc
from tests.cli.conftest import Invoke, command

ANALYSIS = [
    "--conditions",
    "face,house",
    "--radius-mm",
    "5.6",
    "--cv",
    "2",
    "--engine",
    "sklearn",
    "--block-centers",
    "2",
    "--out",
    "out.zarr",
]
QUICK = [
    "--conditions",
    "face,house",
    "--runs",
    "0,1",
    "--radius-mm",
    "3.6",
    "--cv",
    "2",
    "--out",
    "out.zarr",
    "--workers",
    "1",
]
HINT = "slcluster: interrupted; Finished blocks are kept; to go on: slcluster resume "


def wait_for_blocks(path: Path, n_blocks: int, within_s: float = 300.0) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if path.exists() and slc.status(path).n_done >= n_blocks:
            return
        time.sleep(0.1)
    pytest.fail("no block was done in time")


@pytest.fixture
def run(store: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command("searchlight", store, *ANALYSIS, "--workers", 2),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that the whole group can be signalled, as a terminal does
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.mark.parametrize("how", ["SIGINT to the group", "SIGINT", "SIGTERM"])
def test_a_stopped_run_can_be_resumed(
    how: str, run: subprocess.Popen[str], store: Path, invoke: Invoke
) -> None:
    out = Path("out.zarr")
    wait_for_blocks(out, 1)
    during = invoke("status", out)
    assert re.search(
        rf"sub-03: running, \d+ of \d+ blocks done\n  computed by process {run.pid} on ", during.stdout
    )
    workers = psutil.Process(run.pid).children(recursive=True)
    if how == "SIGINT to the group":
        os.killpg(run.pid, signal.SIGINT)
    else:
        run.send_signal(getattr(signal, how))
    stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 130
    assert stdout == ""
    assert stderr.splitlines()[-1] == f"{HINT}{out.absolute()}"
    assert "Traceback" not in stderr
    assert "distributed" not in stderr  # no noise of workers that are being stopped
    assert not psutil.wait_procs(workers, timeout=10)[1]
    left = slc.status(out)
    assert left.holder is None
    assert 1 <= left.n_done < left.n_blocks
    resumed = invoke("resume", out, "--workers", 2)
    assert resumed.exit_code == 0
    assert slc.status(out).is_finished


def test_progress_in_a_pipe_is_plain_lines(store: Path) -> None:
    done = subprocess.run(command("searchlight", store, *QUICK), capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr
    n_blocks = slc.status("out.zarr").n_blocks
    lines = [line for line in done.stderr.splitlines() if line.startswith("searchlight sub-03: ")]
    assert lines[0] == f"searchlight sub-03: 0/{n_blocks} blocks"
    assert re.fullmatch(rf"searchlight sub-03: {n_blocks}/{n_blocks} blocks, [0-9.e+]+ blocks/s", lines[-1])
    assert done.stdout.count("\n") == 1


def test_quiet_says_nothing_but_the_result(store: Path) -> None:
    done = subprocess.run(
        command("searchlight", store, *QUICK, "-q"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_ctrl_c_in_a_terminal(store: Path) -> None:
    """The bar stays on its line, and the hint is the last thing on the screen."""
    pexpect = pytest.importorskip("pexpect")
    words = command("searchlight", store, *ANALYSIS, "--workers", 2)
    child = pexpect.spawn(words[0], words[1:], encoding="utf8", dimensions=(24, 160), timeout=60)
    child.expect(r"searchlight sub-03: +[0-9]+%\|[^\r\n]* [1-9]/[0-9]+ \[")
    assert "\n" not in child.after
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    screen = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", child.before)
    assert screen.rstrip().endswith(f"{HINT}{Path('out.zarr').absolute()}")
    assert "Traceback" not in screen
