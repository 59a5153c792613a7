"""Failures that a result store keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from slcluster.errors import StoreError
from slcluster.store.failures import FAILURES_NAME, Failure, add_failure, read_failures, write_failures

SOME = (Failure(3, "sub-01, block 3: ValueError: é", 1), Failure(12, "sub-01, block 12: OSError: no", 4))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_failures(tmp_path) == ()
    write_failures(tmp_path, SOME[::-1])
    assert read_failures(tmp_path) == SOME
    assert [file.name for file in tmp_path.iterdir()] == [FAILURES_NAME]
    write_failures(tmp_path, ())
    write_failures(tmp_path, ())
    assert list(tmp_path.iterdir()) == []


def test_one_more_is_added_behind_the_others(tmp_path: Path) -> None:
    """Thousands of failures must not be written again for each."""
    write_failures(tmp_path, SOME)
    path = tmp_path / FAILURES_NAME
    inode, before = path.stat().st_ino, path.read_bytes()
    again = Failure(3, "sub-01, block 3: another", 2)
    add_failure(tmp_path, again)
    assert path.stat().st_ino == inode
    assert path.read_bytes().startswith(before)
    assert read_failures(tmp_path) == (again, SOME[1])


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    for failure in SOME:
        add_failure(tmp_path, failure)
    path = tmp_path / FAILURES_NAME
    path.write_bytes(path.read_bytes()[:-9])
    more = Failure(40, "sub-01, block 40: no", 1)
    add_failure(tmp_path, more)
    assert read_failures(tmp_path) == (SOME[0], more)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", '{"block": "x"}', '{"block": 3}', "\xff"])
def test_what_cannot_be_read_is_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / FAILURES_NAME).write_bytes(text.encode("latin-1"))
    assert read_failures(tmp_path) == ()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match="^cannot write .*nowhere: No such file or directory; .*; then resume$"
    ):
        write_failures(tmp_path / "nowhere", SOME)
    with pytest.raises(StoreError, match="^cannot write .*; then resume$"):
        add_failure(tmp_path / "nowhere", SOME[0])
