"""One driver at a time: who is refused, who takes over, and when."""

from __future__ import annotations

import errno
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from slcluster.errors import StoreError
from slcluster.store import lease
from slcluster.store.lease import LEASE_NAME, Lease, is_dead, read_lease
from tests.faults.driving import FORKING, started, wait_for


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules of a minute in a tenth of a second."""
    monkeypatch.setattr(lease, "_HEARTBEAT_S", 0.02)
    monkeypatch.setattr(lease, "SILENCE_S", 0.15)
    monkeypatch.setattr(lease, "_POLL_S", 0.01)


def _hold(store: Path) -> None:
    with Lease(store):
        time.sleep(60)


def _lease_of(store: Path, **changes: Any) -> dict[str, Any]:
    """Write the lease of a process of this host that runs, or what ``changes`` make of it."""
    parent = psutil.Process(os.getppid())
    held = {
        "host": "here",
        "place": lease._place(),
        "pid": parent.pid,
        "process_start": parent.create_time(),
        "started": 0.0,
        "n_done_at_start": 0,
        "heartbeat": 0.0,
        "token": "another",
        **changes,
    }
    (store / LEASE_NAME).write_text(json.dumps(held))
    return held


FOREIGN = {"host": "elsewhere", "place": "elsewhere pid:[1]", "pid": 77}


def test_held_and_given_back(tmp_path: Path) -> None:
    with Lease(tmp_path) as held:
        found = read_lease(tmp_path)
        assert found is not None
        assert found["pid"] == os.getpid()
        assert found["n_done_at_start"] == 0
        held.begin(7)
        assert (read_lease(tmp_path) or {})["n_done_at_start"] == 7
        assert not is_dead(found)
    assert list(tmp_path.iterdir()) == []


def test_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Lease(tmp_path):
        raise KeyboardInterrupt
    assert read_lease(tmp_path) is None


def test_refused_within_a_process(tmp_path: Path) -> None:
    message = (
        rf"{tmp_path} is being computed by process {os.getpid()} on \S+; wait for it, or stop it and resume"
    )
    with Lease(tmp_path), pytest.raises(StoreError, match=message), Lease(tmp_path):
        pass
    with Lease(tmp_path):
        pass


def test_refused_while_another_process_lives_and_taken_over_once_it_is_killed(tmp_path: Path) -> None:
    with started(_hold, tmp_path) as holder:
        wait_for(lambda: read_lease(tmp_path) is not None)
        with (
            pytest.raises(StoreError, match=f"is being computed by process {holder.pid} on"),
            Lease(tmp_path),
        ):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
    begun = time.monotonic()
    with Lease(tmp_path):
        assert time.monotonic() - begun < 5
        assert (read_lease(tmp_path) or {})["pid"] == os.getpid()


def test_a_process_that_nobody_has_waited_for_is_dead(tmp_path: Path) -> None:
    """In a container a killed driver may stay a zombie for ever."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        start = psutil.Process(child.pid).create_time()
        wait_for(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert is_dead(_lease_of(tmp_path, pid=child.pid, process_start=start))
        with Lease(tmp_path):
            pass


def test_an_ancestor_with_our_number_is_dead(tmp_path: Path) -> None:
    """A container that is started again gives its driver the same number."""
    _lease_of(tmp_path, pid=os.getpid(), process_start=psutil.Process().create_time())
    with Lease(tmp_path):
        pass


@pytest.mark.parametrize(
    "changes",
    [FOREIGN, {"process_start": 5.0}, {"pid": None}, {"place": lease._place() + " another container"}],
    ids=["another host", "another start", "no number", "another container"],
)
@pytest.mark.usefixtures("quick")
def test_where_nobody_knows_silence_decides(tmp_path: Path, changes: dict[str, Any]) -> None:
    held = _lease_of(tmp_path, **changes)
    assert not is_dead(held)
    begun = time.monotonic()
    with Lease(tmp_path):
        assert time.monotonic() - begun >= 0.15
        assert (read_lease(tmp_path) or {})["pid"] == os.getpid()


@pytest.mark.usefixtures("quick")
def test_another_host_that_gives_a_sign_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What counts is that the file changes, whatever the other host's clock says."""
    _lease_of(tmp_path, **FOREIGN)
    sign = threading.Timer(0.05, lambda: _lease_of(tmp_path, **FOREIGN, heartbeat=-1e9))
    sign.start()
    with pytest.raises(StoreError, match="is being computed by process 77 on elsewhere"), Lease(tmp_path):
        pass
    sign.join()
    assert (read_lease(tmp_path) or {})["token"] == "another"
    assert f"{tmp_path} was being computed by process 77 on elsewhere; waiting" in caplog.text


@pytest.mark.usefixtures("quick")
def test_another_host_that_gives_its_lease_back(tmp_path: Path) -> None:
    _lease_of(tmp_path, **FOREIGN)
    end = threading.Timer(0.05, (tmp_path / LEASE_NAME).unlink)
    end.start()
    with Lease(tmp_path):
        pass
    end.join()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b"\xff\xfe",
        b"{}",
        b'{"pid": 1, "host": "here"}',
        b'{"pid": 1, "host": "here", "started": "x", "n_done_at_start": 0}',
    ],
)
@pytest.mark.usefixtures("quick")
def test_a_damaged_lease_is_of_an_unknown_process(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEASE_NAME).write_bytes(content)
    assert read_lease(tmp_path) == {}
    with Lease(tmp_path):
        pass


def test_a_lease_that_cannot_be_read_is_of_an_unknown_process(tmp_path: Path) -> None:
    (tmp_path / LEASE_NAME).mkdir()
    assert read_lease(tmp_path) == {}
    with pytest.raises(StoreError, match="cannot write .*: Is a directory"), Lease(tmp_path):
        pass


@pytest.mark.usefixtures("quick")
def test_a_heartbeat_that_cannot_read_its_lease_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that fails for a moment is no other driver."""
    real, failures = lease._read, []

    def read(store: Path) -> Any:
        if threading.current_thread().name == "slcluster-lease" and len(failures) < 3:
            failures.append(store)
            raise OSError(errno.EIO, "Input/output error")
        return real(store)

    monkeypatch.setattr(lease, "_read", read)
    with Lease(tmp_path) as held:
        before = (read_lease(tmp_path) or {})["heartbeat"]
        wait_for(lambda: (read_lease(tmp_path) or {})["heartbeat"] > before)
        assert len(failures) == 3
        held.check()


@pytest.mark.usefixtures("quick")
def test_a_stopped_driver_is_taken_over_after_its_silence(tmp_path: Path) -> None:
    """Ctrl-Z in its terminal is enough."""
    with started(_hold, tmp_path) as holder:
        wait_for(lambda: read_lease(tmp_path) is not None)
        os.kill(holder.pid, signal.SIGSTOP)
        wait_for(lambda: psutil.Process(holder.pid).status() == psutil.STATUS_STOPPED)
        lease.check_free(tmp_path)
        begun = time.monotonic()
        with Lease(tmp_path):
            assert time.monotonic() - begun >= 0.15
            assert (read_lease(tmp_path) or {})["pid"] == os.getpid()


@pytest.mark.usefixtures("quick")
def test_heartbeats(tmp_path: Path) -> None:
    with Lease(tmp_path):
        seen = set()

        def see() -> int:
            seen.add((read_lease(tmp_path) or {})["heartbeat"])
            return len(seen) > 4

        wait_for(see)
        assert (
            os.listdir(tmp_path) == [LEASE_NAME] or len(os.listdir(tmp_path)) == 2
        )  # one just being written


@pytest.mark.usefixtures("quick")
def test_a_driver_that_slept_too_long_stops(tmp_path: Path) -> None:
    """A laptop that wakes up must not go on beside the driver that took over, nor take its lease away."""
    with Lease(tmp_path) as held:
        held.check()
        for _ in range(20):  # a heartbeat that was under way may replace the first
            taken = _lease_of(tmp_path)
            time.sleep(0.05)
        with pytest.raises(StoreError, match=f"was taken over by process {taken['pid']} on here while this"):
            held.check()
    assert read_lease(tmp_path) == taken


@pytest.mark.usefixtures("quick")
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(lease.fcntl, "flock", no_locks)
    with Lease(tmp_path), pytest.raises(StoreError, match="is being computed by"), Lease(tmp_path):
        pass
    _lease_of(tmp_path, pid=2**22 + 1)
    with Lease(tmp_path):
        pass
    assert read_lease(tmp_path) is None


def test_what_a_killed_heartbeat_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / f"{LEASE_NAME}.abc.partial").write_text("{")
    with Lease(tmp_path):
        assert os.listdir(tmp_path) == [LEASE_NAME]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write .*gone: No such file"), Lease(tmp_path / "gone"):
        pass


N_RACES, N_RACERS = 50, 3


def _race(stores: list[Path], barrier: Any, outcomes: Any) -> None:
    for number, store in enumerate(stores):
        barrier.wait(30)
        try:
            with Lease(store):
                outcomes.put((number, "won"))
                barrier.wait(30)  # hold it until everybody has tried
        except StoreError as error:
            outcomes.put((number, "refused" if "is being computed by" in str(error) else str(error)))
            barrier.wait(30)


@pytest.mark.parametrize("left", ["nothing", "a dead lease"])
def test_of_processes_that_race_exactly_one_wins(tmp_path: Path, left: str) -> None:
    stores = [tmp_path / str(number) for number in range(N_RACES)]
    for store in stores:
        store.mkdir()
        if left == "a dead lease":
            _lease_of(store, pid=2**22 + 1)  # above every process number of Linux
    barrier, outcomes = FORKING.Barrier(N_RACERS), FORKING.Queue()
    racers = [FORKING.Process(target=_race, args=(stores, barrier, outcomes)) for _ in range(N_RACERS)]
    for racer in racers:
        racer.start()
    found = Counter()
    try:
        for _ in range(N_RACES * N_RACERS):
            found[outcomes.get(timeout=60)] += 1
    except queue.Empty:
        pytest.fail(f"a racer is stuck after {found}")
    finally:
        for racer in racers:
            racer.join(10)
            racer.kill()
    for number in range(N_RACES):
        assert (found[number, "won"], found[number, "refused"]) == (1, N_RACERS - 1), f"race {number}"
    assert not any(list(store.iterdir()) for store in stores)
