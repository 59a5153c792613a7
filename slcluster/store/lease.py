"""One driver at a time on a result store.

A lease is a small file in the store: host, process, when that process started, and a heartbeat. A second
driver is refused while the first lives. Same host and dead process: taken over at once. Where this host cannot
tell (another host, another container), taken over when the file has not changed for a minute of the waiting
driver's own clock, so that hosts whose clocks disagree do not steal from each other.

Reading, judging and writing the file happens under a lock on the store's folder, which the system releases
when its holder dies. On a file system without locks, or whose locks on folders are of one host alone (NFS), two
drivers that start in the same moment may both go on until the first heartbeat, at which one of them stops; blocks
written twice are harmless.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from slcluster.errors import StoreError, cannot_write

__all__ = ["LEASE_NAME", "SILENCE_S", "Lease", "check_free", "is_dead", "is_seen", "read_lease", "silence_s"]

LEASE_NAME = "lease.json"

log = logging.getLogger("slcluster")

_HEARTBEAT_S = 10.0
#: A driver on another host that gave no sign of life for this long has ended.
SILENCE_S = 60.0
_POLL_S = 1.0
_LOCK_PATIENCE_S = 10.0

#: What readers of a lease rely on.
_NUMBERS = ("started", "n_done_at_start")

#: Tokens of the leases that this process holds: a lease of its own number that is not here is an ancestor's.
_HELD: set[str] = set()


def read_lease(store: str | Path) -> dict[str, Any] | None:
    """Who holds the store, or None. Empty where the file is damaged or not readable: held by nobody known."""
    try:
        return _read(Path(store))
    except OSError:
        return {}


def _read(store: Path) -> dict[str, Any] | None:
    """For drivers: what the system says of its file is no reason to take a lease for lost."""
    try:
        held = json.loads((store / LEASE_NAME).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    if not isinstance(held, dict) or not {"pid", "host"} <= set(held):
        return {}
    return held if all(isinstance(held.get(name), int | float) for name in _NUMBERS) else {}


def is_dead(held: dict[str, Any]) -> bool:
    """Whether it is certain that the process which wrote a lease has ended."""
    return held.get("place") == _place() and _state(held) == "dead"


def is_seen(held: dict[str, Any]) -> bool:
    """Whether the process that wrote a lease is on this machine, running or stopped."""
    return _state(held) in ("alive", "stopped")


def check_free(store: str | Path) -> None:
    """Refuse a store that a living driver of this host holds.

    Raises
    ------
    StoreError
        Names the holder.
    """
    held = read_lease(store)
    if held is not None and _state(held) == "alive":
        raise _is_held(store, held)


def silence_s(held: dict[str, Any]) -> float:
    """Seconds since the driver's last sign of life, by its own clock and this one."""
    return max(0.0, time.time() - held.get("heartbeat", held["started"]))


def _place() -> str:
    """Within what process numbers mean the same: a host, or a container that borrows the host's name."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # macOS has neither /proc nor such containers
        return socket.gethostname()


def _state(held: dict[str, Any]) -> str:
    """ "alive", "stopped", "dead", or "unknown", of the process that wrote a lease."""
    if held.get("place") != _place() or not isinstance(held.get("pid"), int):
        return "unknown"
    if held["pid"] == os.getpid():
        return "alive" if held.get("token") in _HELD else "dead"
    try:
        process = psutil.Process(held["pid"])
        status = process.status()
        if status == psutil.STATUS_ZOMBIE:
            return "dead"
        if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
            return "stopped"  # it gives no sign of life; one that wakes up finds its lease taken, and ends
        # Another start means another process of that number, or a clock that was set since.
        return "alive" if abs(process.create_time() - held["process_start"]) < 1.0 else "unknown"
    except psutil.NoSuchProcess:
        return "dead"
    except (psutil.Error, KeyError, TypeError):
        return "unknown"


class Lease:
    """Hold a result store while driving it. Use as a context manager.

    Parameters
    ----------
    store : path
        The result store, which exists.

    Raises
    ------
    StoreError
        On entering, while another driver holds the store, or where it cannot be written.
    """

    def __init__(self, store: str | Path) -> None:
        self._store = Path(store)
        self._token = uuid.uuid4().hex
        self._n_done = 0
        self._is_lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="slcluster-lease", daemon=True)
        self._started = time.time()

    def __enter__(self) -> Lease:
        try:
            self._acquire()
        except OSError as error:
            raise cannot_write(self._store, error) from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        _HELD.discard(self._token)
        try:
            with _locked(self._store):
                if self._is_ours():
                    (self._store / LEASE_NAME).unlink()
        except OSError as problem:  # what went wrong before matters more; this process's end frees the store
            log.warning("cannot remove the lease of %s: %s", self._store, problem.strerror or problem)

    def begin(self, n_done: int) -> None:
        """Tell readers how many blocks were done when this driver began, for the rate that they show."""
        self._n_done = n_done
        try:
            with _locked(self._store):
                if self._is_ours():
                    self._write()
        except OSError:  # the heartbeat tries again
            pass

    def check(self) -> None:
        """Raise StoreError if another driver has taken the store over, as after a long sleep of this host."""
        if self._is_lost:
            holder = _holder(read_lease(self._store) or {})
            raise StoreError(
                f"{self._store} was taken over by {holder} while this driver gave no sign of life; "
                "its status says how far it is"
            )

    def _acquire(self) -> None:
        silent: dict[str, Any] | None = None
        while True:
            with _locked(self._store):
                held = _read(self._store)
                state = "dead" if held is None else _state(held)
                if held is None or state == "dead" or held == silent:
                    self._write()
                    _HELD.add(self._token)
                    return
            if state == "alive" or silent is not None:
                raise _is_held(self._store, held)
            self._wait_for_sign(held)
            silent = held

    def _wait_for_sign(self, held: dict[str, Any]) -> None:
        """Return when the lease changes, or has not for as long as the living need."""
        log.warning(
            "%s was being computed by %s; waiting up to %g s for a sign of life",
            self._store,
            _holder(held),
            SILENCE_S,
        )
        deadline = time.monotonic() + SILENCE_S
        while time.monotonic() < deadline and _read(self._store) == held:
            time.sleep(_POLL_S)

    def _write(self) -> None:
        """Replace the file whole. Only with the lock held."""
        content = {
            "host": socket.gethostname(),
            "place": _place(),
            "pid": os.getpid(),
            "process_start": psutil.Process().create_time(),
            "started": self._started,
            "n_done_at_start": self._n_done,
            "heartbeat": time.time(),
            "token": self._token,
        }
        for leftover in self._store.glob(f"{LEASE_NAME}.*.partial"):
            leftover.unlink(missing_ok=True)
        fresh = self._store / f"{LEASE_NAME}.{self._token}.partial"
        try:
            fresh.write_text(json.dumps(content))
            os.replace(fresh, self._store / LEASE_NAME)
        finally:
            fresh.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        return (_read(self._store) or {}).get("token") == self._token

    def _beat(self) -> None:
        while not self._stop.wait(_HEARTBEAT_S):
            try:
                with _locked(self._store):
                    if _read(self._store) is not None and not self._is_ours():
                        self._is_lost = True
                        return
                    self._write()
            except OSError:  # a full or vanished disk: the blocks' own errors say so
                continue


def _is_held(store: str | Path, held: dict[str, Any]) -> StoreError:
    return StoreError(f"{store} is being computed by {_holder(held)}; wait for it, or stop it and resume")


def _holder(held: dict[str, Any]) -> str:
    return f"process {held['pid']} on {held['host']}" if held else "an unknown process"


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Keep other drivers from the lease for a moment, where the file system has locks."""
    handle = os.open(store, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while not _try_lock(handle) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # no locks here: see above
    return True
