"""Progress: silent, one line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

import pytest

from slcluster import progress
from slcluster.progress import Step, listener

_TALK = """
from slcluster.progress import Step, listener
tell = listener(True)
for done in range(3, 11):
    tell(Step("searchlight sub-01", done, 10, "block"))
"""


def test_none_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    listener(None)(Step("ingest", 1, 1, "sample"))
    assert capsys.readouterr() == ("", "")


def test_a_callable_gets_every_step() -> None:
    seen: list[Step] = []
    tell = listener(seen.append)
    for done in range(4):
        tell(Step("ingest", done, 3, "sample"))
    assert [step.done for step in seen] == [0, 1, 2, 3]


def test_plain_lines_when_piped() -> None:
    found = subprocess.run([sys.executable, "-c", _TALK], capture_output=True, text=True, check=True)
    lines = found.stderr.splitlines()
    assert lines[0] == "searchlight sub-01: 3/10 blocks"
    assert lines[-1].startswith("searchlight sub-01: 10/10 blocks, ")
    assert "\r" not in found.stderr
    assert found.stdout == ""


def test_one_line_in_a_terminal() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with subprocess.Popen([sys.executable, "-c", _TALK], stderr=theirs, stdout=theirs) as talking:
        os.close(theirs)
        text = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux: the other end has gone
                break
            if not part:
                break
            text += part
    os.close(ours)
    assert talking.returncode == 0
    assert text.count(b"\n") == 1
    assert b"10/10" in text
    assert b"block/s" in text


def test_rate_leaves_out_what_was_done_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    tell = listener(True)
    tell(Step("searchlight", 50, 100, "block"))
    tell(Step("searchlight", 70, 100, "block"))
    last = capsys.readouterr().err.splitlines()[-1]
    # 20 blocks in 10 s, 30 to go; the 50 of an earlier process say nothing about speed.
    assert last == "searchlight: 70/100 blocks, 2 blocks/s, 15 s left"


def test_lines_are_not_a_flood(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    tell = listener(True)
    for done in range(1001):
        now[0] += 0.01
        tell(Step("searchlight", done, 1000, "block"))
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 5  # first, one every five seconds, last
    assert lines[-1].startswith("searchlight: 1000/1000 blocks")


def test_a_second_stage_begins_anew(capsys: pytest.CaptureFixture[str]) -> None:
    tell = listener(True)
    tell(Step("ingest", 2, 2, "sample"))
    tell(Step("searchlight", 0, 5, "block", "2 workers"))
    assert capsys.readouterr().err.splitlines() == [
        "ingest: 2/2 samples",
        "searchlight: 0/5 blocks, 2 workers",
    ]
