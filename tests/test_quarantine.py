"""What is tried again, what is set aside, and what ends a run."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from slcluster.errors import (
    BlockError,
    FailedBlocksError,
    StoreError,
    WorkerLostError,
    cannot_write,
    may_pass,
)
from slcluster.quarantine import HOPELESS, PAUSES_S, Quarantine
from slcluster.store.attempts import attempting
from slcluster.store.failures import read_failures


def _quarantine(path: Path, n_done: int = 0) -> Quarantine:
    return Quarantine(path, "sub-01", n_blocks=90, n_done=n_done)


def _unsteady() -> BlockError:
    error = BlockError("sub-01, block 3: cannot read")
    error.may_pass = True
    return error


def test_its_own_error_is_final_at_once(tmp_path: Path) -> None:
    quarantine = _quarantine(tmp_path)
    assert quarantine.failed(3, BlockError("sub-01, block 3:\nimpossible")) is None
    (failure,) = read_failures(tmp_path)
    assert (failure.block, failure.error, failure.n_tries) == (3, "sub-01, block 3: impossible", 1)
    with pytest.raises(
        FailedBlocksError, match="^sub-01: 1 of 90 blocks failed, the others are done: sub-01, block 3"
    ):
        quarantine.check()


def test_what_may_pass_is_tried_again_a_stated_number_of_times(tmp_path: Path) -> None:
    quarantine = _quarantine(tmp_path)
    assert [quarantine.failed(3, _unsteady()) for _ in range(4)] == [*PAUSES_S, None]
    assert quarantine.failed(4, _unsteady()) == PAUSES_S[0], "each block has its own tries"
    assert read_failures(tmp_path)[0].n_tries == 4


def test_what_meets_every_block_ends_the_run(tmp_path: Path) -> None:
    full = cannot_write(tmp_path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(StoreError, match="No space left on device"):
        _quarantine(tmp_path).failed(3, full)
    broken = cannot_write(tmp_path, OSError(errno.EIO, os.strerror(errno.EIO)))
    quarantine = _quarantine(tmp_path)
    assert [quarantine.failed(3, broken) for _ in PAUSES_S] == [*PAUSES_S]
    with pytest.raises(StoreError, match="Input/output error"):
        quarantine.failed(3, broken)
    assert read_failures(tmp_path) == ()


def test_a_lost_worker_is_blamed_on_no_block_that_had_not_begun(tmp_path: Path) -> None:
    quarantine, lost = _quarantine(tmp_path), WorkerLostError("sub-01, block 3: the worker died")
    pauses = [quarantine.failed(3, lost) for _ in range(21)]
    assert pauses == [PAUSES_S[0]] * 20 + [None], "but not for ever"
    with attempting(tmp_path, 4):  # a block that had begun gives up by itself, if its workers reach it
        assert [quarantine.failed(4, lost) for _ in range(41)] == [PAUSES_S[0]] * 40 + [None]


def test_nothing_but_failures(tmp_path: Path) -> None:
    quarantine = _quarantine(tmp_path)
    for number in range(HOPELESS - 1):
        quarantine.failed(number, BlockError("no"))
    message = "^sub-01: all of the first blocks failed: no; no; no; and 17 more; "
    with pytest.raises(FailedBlocksError, match=message):
        quarantine.failed(HOPELESS, BlockError("no"))
    assert quarantine.n_failed == HOPELESS
    patient = _quarantine(tmp_path, n_done=1)
    assert [patient.failed(number, BlockError("no")) for number in range(90)] == [None] * 90


def test_failures_of_earlier_runs_stay_until_their_blocks_are_done(tmp_path: Path) -> None:
    first = _quarantine(tmp_path)
    for number in (3, 4):
        first.failed(number, BlockError("no"))
    second = _quarantine(tmp_path)
    second.passed(4)
    second.check()
    assert [failure.block for failure in read_failures(tmp_path)] == [3]
    second.passed(3)
    second.check()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EIO, "x"), True),
        (OSError(errno.ESTALE, "x"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError(errno.ENOSPC, "x"), False),
        (FileNotFoundError(errno.ENOENT, "x"), False),
        (ValueError("x"), False),
        (_unsteady(), True),
        (BlockError("x"), False),
        (None, False),
    ],
)
def test_what_may_pass(error: BaseException | None, expected: bool) -> None:
    assert may_pass(error) is expected
    if error is not None:
        assert may_pass(pickle.loads(pickle.dumps(error))) is expected, "also on its way from a worker"
