"""Notes of who computed which block: read once, whole lines alone, and never in the way."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slcluster.store.notes import NOTES_NAME, NoteReader, note_block


def test_each_note_is_read_once(tmp_path: Path) -> None:
    reader = NoteReader(tmp_path)
    assert reader.fresh() == []
    note_block(tmp_path, 3, worker="w", seconds=0.5)
    (note,) = reader.fresh()
    assert (note.number, note.worker, note.seconds) == (3, "w", 0.5)
    assert reader.fresh() == []
    note_block(tmp_path, 5, worker="w", seconds=0.5)
    assert [note.number for note in reader.fresh()] == [5]
    assert [note.number for note in NoteReader(tmp_path).fresh()] == [3, 5]


def test_threads_and_processes_do_not_mix(tmp_path: Path) -> None:
    def many(start: int) -> None:
        for number in range(start, start + 50):
            note_block(tmp_path, number, worker="threads", seconds=0.0)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(many, range(0, 200, 50)))
    child = multiprocessing.get_context("fork").Process(target=many, args=(200,))
    child.start()
    child.join()
    assert child.exitcode == 0
    notes = NoteReader(tmp_path).fresh()
    assert sorted(note.number for note in notes) == list(range(250))
    assert len(list((tmp_path / NOTES_NAME).iterdir())) == 2


def test_half_a_line_waits_and_rubbish_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / NOTES_NAME
    folder.mkdir()
    file = folder / "a.jsonl"
    file.write_text('{"worker": "w", "host": "h"}\n[1, 2.5, 0.1]\nrubbish\n[1]\n{"x": 1}\n[2, 3.')
    reader = NoteReader(tmp_path)
    assert [note.number for note in reader.fresh()] == [1]
    with open(file, "a") as out:
        out.write("5, 0.1]\n")
    assert [(note.number, note.ended) for note in reader.fresh()] == [(2, 3.5)]


def test_notes_that_cannot_be_written_are_left_out(tmp_path: Path) -> None:
    (tmp_path / NOTES_NAME).write_text("a file where the folder would be")
    note_block(tmp_path, 1, worker="w", seconds=0.1)
    assert NoteReader(tmp_path).fresh() == []
