"""Who computed which block and when: notes in a result store, for people who watch.

They are no part of the result, and nothing that is computed depends on them. Every process that computes appends
to a file of its own in ``workers/``, a line for each block once that is in the store: nobody else writes there,
and no lock is needed. A process that is killed between block and note leaves a block of which nobody knows who
made it; a note of a block that is not there does not happen.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["NOTES_NAME", "Note", "NoteReader", "note_block"]

#: Folder of the notes.
NOTES_NAME = "workers"

#: A forked process must not go on in its parent's file.
_OURS: tuple[int, str] = (0, "")
_LOCK = threading.Lock()


class Note(NamedTuple):
    """One block that a worker computed.

    Attributes
    ----------
    number : int
    worker, host : str
    ended : float
        When it was in the store, by the worker's clock: seconds since 1970.
    seconds : float
        How long reading, computing and writing took.
    """

    number: int
    worker: str
    host: str
    ended: float
    seconds: float


def note_block(path: str | Path, number: int, *, worker: str, seconds: float) -> None:
    """Note that this process has written a block. Where that cannot be written, nothing is.

    Parameters
    ----------
    path : path
        The result store, which holds the block.
    number : int
    worker : str
        What the cluster calls this process.
    seconds : float
        How long the block took.
    """
    folder = Path(path) / NOTES_NAME
    line = json.dumps([number, round(time.time(), 3), round(seconds, 3)]) + "\n"
    with suppress(OSError), _LOCK:
        file = folder / f"{_token()}.jsonl"
        if not file.exists():
            folder.mkdir(exist_ok=True)
            line = json.dumps({"worker": worker, "host": socket.gethostname()}) + "\n" + line
        with open(file, "ab", buffering=0) as out:
            out.write(line.encode())


def _token() -> str:
    global _OURS
    if _OURS[0] != os.getpid():
        _OURS = os.getpid(), uuid.uuid4().hex
    return _OURS[1]


class NoteReader:
    """Reads every note of a result store once.

    Parameters
    ----------
    path : path
        A result store; those of older versions have no notes.
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = Path(path) / NOTES_NAME
        self._read: dict[str, int] = {}
        self._who: dict[str, tuple[str, str]] = {}

    def fresh(self) -> list[Note]:
        """Notes that were not there before."""
        try:
            found = [(entry.name, entry.stat().st_size) for entry in os.scandir(self._folder)]
        except OSError:
            return []
        return [note for name, size in found if size > self._read.get(name, 0) for note in self._of(name)]

    def _of(self, name: str) -> list[Note]:
        start = self._read.get(name, 0)
        try:
            with open(self._folder / name, "rb") as file:
                file.seek(start)
                text = file.read()
        except OSError:
            return []
        text = text[: text.rfind(b"\n") + 1]  # the last line may still be in writing
        self._read[name] = start + len(text)
        return [note for line in text.splitlines() if (note := self._parsed(name, line)) is not None]

    def _parsed(self, name: str, line: bytes) -> Note | None:
        """A note; None for the line that says whose they are, and for what is no note."""
        try:
            content = json.loads(line)
            if isinstance(content, dict):
                self._who[name] = str(content["worker"]), str(content["host"])
                return None
            number, ended, seconds = content
            return Note(int(number), *self._who[name], float(ended), float(seconds))
        except (ValueError, TypeError, KeyError):
            return None
