"""Clusters that stay, as a user would type them, and what is left of them when they are killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import slcluster as slc
from tests.cli.conftest import Invoke, called, command
from tests.conftest import has_ended

LOCAL = ("local", "--name", "lab", "--workers", 1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the test's own. Whatever still runs of it is killed."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SLCLUSTER_HOME", str(folder))
    yield folder / "clusters" / "lab"
    from slcluster.cluster.service import list_services

    for service in list_services():
        with suppress(psutil.NoSuchProcess):
            psutil.Process(service.pid).kill()


def wait_until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300.0
    while not what():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def pid_in(text: str) -> int:
    found = re.search(r"process (\d+)", text)
    assert found is not None, text
    return int(found[1])


def test_from_start_to_stop(store: Path, home: Path, invoke: Invoke) -> None:
    assert invoke("cluster", "list").output.startswith("no clusters; start one with: slcluster cluster start")
    done = called("cluster", "start", *LOCAL, "--idle-timeout", "10m")
    assert (done.returncode, done.stderr) == (0, "")
    assert "use it with --cluster lab, or slc.attach('lab')" in done.stdout

    again = invoke("cluster", "start", *LOCAL)
    assert again.exit_code == 2
    assert again.output.startswith("slcluster: error: a cluster called lab is running on ")

    analysis = ("--conditions", "face,house", "--runs", "0,1", "--radius-mm", "3.6", "--cv", 2)
    run = called("searchlight", store, *analysis, "--out", "out.zarr", "--cluster", "lab")
    assert run.returncode == 0, run.stderr
    assert slc.status("out.zarr").is_finished

    assert "2 workers" in invoke("cluster", "scale", "lab", 2).output
    wait_until(lambda: "2 of 2 workers" in invoke("cluster", "list").output)
    listed = called("cluster", "list").stdout
    assert re.match(
        r"lab: local, running on \S+, process \d+, 2 of 2 workers, tls://127\.0\.0\.1:\d+\n", listed
    )
    assert "  runs: none\n" in listed
    assert re.search(
        r"dashboard: http://127\.0\.0\.1:(\d+)/status; from another machine: ssh -N -L \1:127\.0\.0\.1:\1 \S+\n",
        listed,
    )
    assert "2 workers, all with this slcluster" in invoke("cluster", "lab").output
    assert "lab, which runs already" in invoke("cluster", "lab", "--dry-run").output

    stopped = called("cluster", "stop", "lab")
    assert (stopped.returncode, stopped.stdout) == (0, "cluster lab has stopped\n")
    assert [path.name for path in home.iterdir()] == ["log"]
    wait_until(lambda: has_ended(pid_in(listed)))
    late = invoke("cluster", "stop", "lab")
    assert late.exit_code == 2
    assert "no cluster is called 'lab'; known: none; the log of an earlier one ends: " in late.output


def test_killed_and_started_again(home: Path, invoke: Invoke, tmp_path: Path) -> None:
    # Killed while it starts.
    process = subprocess.Popen(command("cluster", "start", *LOCAL, "--foreground"), stderr=subprocess.DEVNULL)
    wait_until((home / "record.json").exists)
    process.kill()
    process.wait()
    assert invoke("cluster", "list").output.startswith("lab: local, gone on ")

    # Killed while it runs: its workers go too.
    assert called("cluster", "start", *LOCAL).returncode == 0
    pid = pid_in(invoke("cluster", "list").output)
    family = [child.pid for child in psutil.Process(pid).children(recursive=True)]
    keys = list(home.glob("tls/*/client.key"))
    assert len(keys) == 1, "those of the first have gone"
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(map(has_ended, family)))
    wait_until(lambda: "lab: local, gone on" in invoke("cluster", "list").output)
    gone = invoke("cluster", "scale", "lab", 2)
    assert gone.exit_code == 1
    assert re.search(
        rf"cluster lab has gone: it was process {pid} on \S+; its log ends: .* runs at tls://", gone.output
    )
    assert "start it again: slcluster cluster start local --name lab" in gone.output

    # Ended politely, as systemd does.
    process = subprocess.Popen(
        command("cluster", "start", *LOCAL, "--foreground"), stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: "running" in invoke("cluster", "list").output)
    assert not keys[0].exists()
    process.terminate()
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert "cluster lab stopped: signal SIGTERM" in said
    assert "Traceback" not in said
    assert not (home / "record.json").exists()
    assert not list(home.glob("tls/*"))


def test_what_a_killed_one_left_is_removed(home: Path, invoke: Invoke) -> None:
    process = subprocess.Popen(command("cluster", "start", *LOCAL, "--foreground"), stderr=subprocess.DEVNULL)
    wait_until((home / "record.json").exists)
    process.kill()
    process.wait()
    assert list(home.glob("tls/*/ca.pem"))
    assert invoke("cluster", "stop", "lab").output == "cluster lab has stopped\n"
    assert not list(home.glob("tls/*"))
    assert invoke("cluster", "list").output.startswith("no clusters")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("strat", "local"), "'strat' is no command and no profile; did you mean start?"),
        (("start", "local"), "Missing option '--name'"),
        (
            ("start", "local", "--name", "lab", "--idle-timeout", "soon"),
            '--idle-timeout: expected a time such as "90s"',
        ),
        (("start", "gateway", "--name", "lab"), "keeps its own scheduler running"),
        (("scale", "lab", "-1"), "-1"),
        (("lba",), "unknown cluster 'lba'"),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str, invoke: Invoke) -> None:
    result = invoke("cluster", *words)
    assert result.exit_code == 2
    assert message in result.output


def test_a_first_word_that_is_no_command_is_a_profile(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("cluster", "--dry-run", "local", "--workers", 3).output.startswith(
        "workers on this machine: 3"
    )
    profile = tmp_path / "start"
    profile.write_text("kind: local\nworkers: 4\n")
    assert invoke("cluster", profile, "--dry-run").output.startswith("workers on this machine: 4")
    text = invoke("cluster", "local", "--help").output
    assert text.startswith("Usage: slcluster cluster PROFILE [OPTIONS]")
    for name in ("PROFILE", "start", "list", "scale", "stop"):
        assert re.search(rf"^  {name}  ", invoke("cluster", "--help").output, re.MULTILINE)
