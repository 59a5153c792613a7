"""Failures that a result store keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from slcluster.errors import StoreError
from slcluster.store.failures import FAILURES_NAME, Failure, read_failures, write_failures

SOME = (Failure(3, "sub-01, block 3: ValueError: é", 1), Failure(12, "sub-01, block 12: OSError: no", 4))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_failures(tmp_path) == ()
    write_failures(tmp_path, SOME[::-1])
    assert read_failures(tmp_path) == SOME
    assert [file.name for file in tmp_path.iterdir()] == [FAILURES_NAME]
    write_failures(tmp_path, ())
    write_failures(tmp_path, ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"failures": 3}', '{"failures": [{"block": "x"}]}', "\xff"]
)
def test_what_cannot_be_read_is_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / FAILURES_NAME).write_bytes(text.encode("latin-1"))
    assert read_failures(tmp_path) == ()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match="^cannot write .*nowhere: No such file or directory; .*; then resume$"
    ):
        write_failures(tmp_path / "nowhere", SOME)
