"""Blocks that failed, kept in the result store with their errors until they are done.

One small file, which the holder of the lease replaces whole. Nothing in it is needed to go on: a block is to be
computed for as long as its chunk is not there.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from slcluster.errors import cannot_write

__all__ = ["FAILURES_NAME", "Failure", "read_failures", "write_failures"]

FAILURES_NAME = "failures.json"


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
    """Blocks that failed, by number. Empty where there are none, or nothing of them can be read."""
    try:
        entries = json.loads((Path(store) / FAILURES_NAME).read_bytes())["failures"]
        found = [Failure(int(e["block"]), str(e["error"]), int(e["n_tries"])) for e in entries]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(sorted(found, key=lambda failure: failure.block))


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
            fresh.write_text(json.dumps({"failures": [asdict(failure) for failure in failures]}, indent=1))
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(Path(store), error, after="; then resume") from error
