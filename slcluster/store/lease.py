"""One driver at a time on a result store.

A lease is a small file in the store: host, process, when that process started, and a heartbeat. A second
driver is refused while the first lives. Same host and dead process: taken over at once. Another host: taken
over when the heartbeat has not changed for a minute (of the waiting driver's own clock, so that hosts whose
clocks disagree do not steal from each other).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from slcluster.errors import StoreError

__all__ = ["LEASE_NAME", "Lease", "read_lease"]

LEASE_NAME = "lease.json"

_HEARTBEAT_S = 10.0
_FOREIGN_SILENCE_S = 60.0


def read_lease(store: str | Path) -> dict[str, Any] | None:
    """Who holds the store, or None. A lease that is just being replaced counts as held by nobody known."""
    try:
        held: dict[str, Any] = json.loads((Path(store) / LEASE_NAME).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return held


def is_alive(held: dict[str, Any]) -> bool:
    """Whether a lease taken on this host belongs to a process that still runs."""
    try:
        return abs(psutil.Process(held["pid"]).create_time() - held["process_start"]) < 1.0
    except (psutil.NoSuchProcess, KeyError):
        return False


class Lease:
    """Hold a result store while driving it. Use as a context manager.

    Parameters
    ----------
    store : path
        The result store, which exists.
    n_done : int
        Blocks already done, for the rate that ``status`` shows.

    Raises
    ------
    StoreError
        On entering, while another driver holds the store, or where it cannot be written.
    """

    def __init__(self, store: str | Path, n_done: int = 0) -> None:
        self._path = Path(store) / LEASE_NAME
        self._token = uuid.uuid4().hex
        self._n_done = n_done
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = time.time()

    def __enter__(self) -> Lease:
        try:
            self._acquire()
        except OSError as error:
            raise StoreError(f"cannot write to {self._path.parent}: {error.strerror or error}") from error
        self._thread = threading.Thread(target=self._beat, name="slcluster-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if (read_lease(self._path.parent) or {}).get("token") == self._token:
            self._path.unlink(missing_ok=True)

    def _acquire(self) -> None:
        while not self._create():
            held = read_lease(self._path.parent)
            if held is None:
                continue
            if held.get("host") == socket.gethostname():
                if held.get("pid") == os.getpid() or is_alive(held):
                    self._refuse(held)
            elif not self._falls_silent(held):
                self._refuse(held)
            self._remove(held)

    def _create(self) -> bool:
        """Create the file whole, or not at all: a link fails where the name exists."""
        fresh = self._path.with_name(f"{LEASE_NAME}.{self._token}")
        fresh.write_text(self._content())
        try:
            os.link(fresh, self._path)
        except FileExistsError:
            return False
        finally:
            fresh.unlink()
        return True

    def _content(self) -> str:
        return json.dumps(
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "process_start": psutil.Process().create_time(),
                "started": self._started,
                "n_done_at_start": self._n_done,
                "heartbeat": time.time(),
                "token": self._token,
            }
        )

    def _falls_silent(self, held: dict[str, Any]) -> bool:
        deadline = time.monotonic() + _FOREIGN_SILENCE_S
        while time.monotonic() < deadline:
            time.sleep(1.0)
            now = read_lease(self._path.parent)
            if now is None:
                return True
            if now != held:
                return False
        return True

    def _remove(self, held: dict[str, Any]) -> None:
        """Take a dead lease away, unless a third driver was quicker and the file is now its lease."""
        grave = self._path.with_name(f"{LEASE_NAME}.{self._token}.dead")
        try:
            os.rename(self._path, grave)
        except FileNotFoundError:
            return
        try:
            taken = json.loads(grave.read_text())
        except ValueError:
            taken = {}
        if taken.get("token") != held.get("token"):
            try:
                os.link(grave, self._path)
            except FileExistsError:
                pass
        grave.unlink()

    def _refuse(self, held: dict[str, Any]) -> None:
        raise StoreError(
            f"{self._path.parent} is being computed by process {held.get('pid')} on {held.get('host')}; "
            "wait for it, or stop it and resume"
        )

    def _beat(self) -> None:
        while not self._stop.wait(_HEARTBEAT_S):
            fresh = self._path.with_name(f"{LEASE_NAME}.{self._token}")
            try:
                fresh.write_text(self._content())
                os.replace(fresh, self._path)
            except OSError:  # a full or vanished disk: the blocks' own errors say so
                fresh.unlink(missing_ok=True)
