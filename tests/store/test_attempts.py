"""Marks of blocks that are being computed: there meanwhile, gone afterwards, counted where they are left."""

from __future__ import annotations

from pathlib import Path

import pytest

from slcluster.errors import StoreError
from slcluster.store.attempts import ATTEMPTS_NAME, attempting, n_lost, sweep_attempts


def test_a_mark_is_there_as_long_as_the_block_is_computed(tmp_path: Path) -> None:
    assert n_lost(tmp_path, 1) == 0
    with attempting(tmp_path, 1), attempting(tmp_path, 11):
        assert (n_lost(tmp_path, 1), n_lost(tmp_path, 11), n_lost(tmp_path, 111)) == (1, 1, 0)
    with pytest.raises(KeyboardInterrupt), attempting(tmp_path, 1):
        raise KeyboardInterrupt
    assert n_lost(tmp_path, 1) == 0


def test_two_workers_at_one_block_have_a_mark_each(tmp_path: Path) -> None:
    with attempting(tmp_path, 3), attempting(tmp_path, 3):
        assert n_lost(tmp_path, 3) == 2


def test_marks_that_were_swept_are_not_missed(tmp_path: Path) -> None:
    with attempting(tmp_path, 3):
        sweep_attempts(tmp_path)
        assert not (tmp_path / ATTEMPTS_NAME).exists()
    sweep_attempts(tmp_path)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / ATTEMPTS_NAME).write_text("in the way")
    with (
        pytest.raises(StoreError, match=f"^cannot write {tmp_path}: .*; then resume$"),
        attempting(tmp_path, 3),
    ):
        pass
