"""Blocks that failed, kept in the result store with their errors until they are done.

A file with one line of JSON for each, which the holder of the lease adds to, and tidies now and then. Nothing in it
is needed to go on: a block is to be computed for as long as its chunk is not there.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from slcluster.errors import StoreError, cannot_write

__all__ = ["FAILURES_NAME", "Failure", "add_failure", "read_failures", "write_failures"]

FAILURES_NAME = "failures.jsonl"


@dataclass(frozen=True)
class Failure:
    """A block that was given up.

    Attributes
    ----------
    block : int
    error : str
        What went wrong, on one line.
    n_tries : int
        How often it was tried.
    """

    block: int
    error: str
    n_tries: int


def read_failures(store: str | Path) -> tuple[Failure, ...]:
    """Blocks that failed, by number, each as it did last. Lines that cannot be read are left out."""
    try:
        lines = (Path(store) / FAILURES_NAME).read_bytes().splitlines()
    except OSError:
        return ()
    found = {}
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            block = int(entry["block"])
            found[block] = Failure(block, str(entry["error"]), int(entry["n_tries"]))
    return tuple(found[block] for block in sorted(found))


def add_failure(store: str | Path, failure: Failure) -> None:
    """Write down one more, in the same time however many there are. Only the holder of the lease may.

    Raises
    ------
    StoreError
        Where nothing can be written.
    """
    try:
        with open(Path(store) / FAILURES_NAME, "ab") as file:
            file.write(b"\n" + _line(failure))  # the last one may have been cut off
    except OSError as error:
        raise _cannot_write(store, error) from error


def write_failures(store: str | Path, failures: Sequence[Failure]) -> None:
    """Replace what is known of failed blocks; without any the file goes. Only the holder of the lease may.

    Raises
    ------
    StoreError
        Where nothing can be written.
    """
    path = Path(store) / FAILURES_NAME
    fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        if not failures:
            path.unlink(missing_ok=True)
            return
        try:
            fresh.write_bytes(b"".join(map(_line, failures)))
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(store, error) from error


def _line(failure: Failure) -> bytes:
    return json.dumps(asdict(failure)).encode() + b"\n"


def _cannot_write(store: str | Path, error: OSError) -> StoreError:
    return cannot_write(Path(store), error, after="; then resume")
