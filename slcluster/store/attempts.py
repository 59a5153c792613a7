"""Which blocks took their workers along: a mark in the result store for every block that is being computed.

A scheduler blames a lost worker on all the tasks that it had been given, those that only waited included. Here the
task itself leaves an empty file when it begins and removes it when it ends, however it ends. A file that is still
there when the block is begun again is of a worker that died computing it, or that is frozen, or cut off.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slcluster.errors import cannot_write

__all__ = ["ATTEMPTS_NAME", "attempting", "n_lost", "sweep_attempts"]

#: Folder in a result store, there while blocks are computed.
ATTEMPTS_NAME = "attempts"


@contextmanager
def attempting(store: str | Path, number: int) -> Iterator[None]:
    """Leave the mark of a block while it is computed.

    Raises
    ------
    StoreError
        Where nothing can be written.
    """
    mark = Path(store) / ATTEMPTS_NAME / f"{number}.{uuid.uuid4().hex[:8]}"
    try:
        mark.parent.mkdir(exist_ok=True)
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except OSError as error:
        raise cannot_write(Path(store), error, after="; then resume") from error
    try:
        yield
    finally:
        with suppress(OSError):  # a mark too many costs time, no more
            mark.unlink()


def n_lost(store: str | Path, number: int) -> int:
    """How many workers began a block and did not end it."""
    try:
        names = os.listdir(Path(store) / ATTEMPTS_NAME)
    except OSError:
        return 0
    return sum(name.startswith(f"{number}.") for name in names)


def sweep_attempts(store: str | Path) -> None:
    """Forget all marks. Only the holder of the lease may."""
    shutil.rmtree(Path(store) / ATTEMPTS_NAME, ignore_errors=True)
