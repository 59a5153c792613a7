"""What becomes of blocks that fail: tried again, or set aside with their errors while the others go on.

Tried again is what may pass: errors of disks and networks, and lost workers. What an estimator raises on a sphere's
samples it will raise again, so that is final at once, as are damaged chunks. What would meet every block alike (a
full disk, a subject store that was replaced) ends the run. So do :data:`HOPELESS` failures before any block is done.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from slcluster.errors import BlockError, FailedBlocksError, StoreError, WorkerLostError, may_pass, one_line
from slcluster.store.attempts import n_lost
from slcluster.store.failures import Failure, add_failure, read_failures, write_failures

__all__ = ["HOPELESS", "PAUSES_S", "Quarantine"]

log = logging.getLogger("slcluster")

#: Seconds before a block is tried again after an error that may pass; as often as there are pauses.
PAUSES_S = (1.0, 5.0, 20.0)

#: How often a block is handed out anew that lost its worker before it had begun, and again for each time that it had:
#: others may take workers along.
_MOST_LOSSES = 20

#: Failures without any success that end a run.
HOPELESS = 20

#: Failures that a message spells out.
_TOLD = 3


class Quarantine:
    """The failures of one run of a result store, whose lease is held.

    Parameters
    ----------
    path : Path
        The result store. What is known of failures there stays until the blocks are done.
    subject : str
    n_blocks, n_done : int
        Of all, and done before this run.
    """

    def __init__(self, path: Path, subject: str, *, n_blocks: int, n_done: int) -> None:
        self._path, self._subject, self._n_blocks = path, subject, n_blocks
        self._n_passed = n_done
        self._known = {failure.block: failure for failure in read_failures(path)}
        self._failed: dict[int, Failure] = {}
        self._tries: Counter[int] = Counter()

    @property
    def n_failed(self) -> int:
        """Blocks given up in this run."""
        return len(self._failed)

    def passed(self, number: int) -> None:
        """A block is done."""
        self._n_passed += 1
        self._known.pop(number, None)

    def failed(self, number: int, error: Exception) -> float | None:
        """A block failed: the seconds after which to try it again, or None where it is given up.

        Raises
        ------
        StoreError
            What would meet the other blocks too.
        FailedBlocksError
            Nothing but failures so far.
        """
        self._tries[number] += 1
        pause_s = self._pause(number, error)
        if pause_s is not None:
            log.warning("%s; trying again", one_line(error))
            return pause_s
        if isinstance(error, StoreError):
            raise error
        failure = Failure(number, one_line(error), self._tries[number])
        self._failed[number] = self._known[number] = failure
        add_failure(self._path, failure)
        log.warning("%s (given up; the other blocks go on)", failure.error)
        if self._n_passed == 0 and self.n_failed >= HOPELESS:
            raise self._error("all of the first blocks failed")
        return None

    def _pause(self, number: int, error: Exception) -> float | None:
        n_tries = self._tries[number]
        if isinstance(error, WorkerLostError):
            # A block that is to blame gives up by itself, if its workers live for long enough to begin it.
            return PAUSES_S[0] if n_tries <= _MOST_LOSSES * (1 + n_lost(self._path, number)) else None
        if may_pass(error) and n_tries <= len(PAUSES_S):
            return PAUSES_S[n_tries - 1]
        return None

    def check(self) -> None:
        """Tidy what is known of failures, all blocks having had their turn; FailedBlocksError if any was given up."""
        write_failures(self._path, [self._known[number] for number in sorted(self._known)])
        if self._failed:
            raise self._error(f"{self.n_failed} of {self._n_blocks} blocks failed, the others are done")

    def _error(self, what: str) -> BlockError:
        texts = [failure.error for failure in self._failed.values()]
        more = f"; and {len(texts) - _TOLD} more" if len(texts) > _TOLD else ""
        return FailedBlocksError(
            f"{self._subject}: {what}: {'; '.join(texts[:_TOLD])}{more}; "
            f"to try them again: slcluster resume {self._path}"
        )
