"""The chain of coordinators: what each does first and last. The queue is a few scripts that note what they are asked.

On a real Slurm: tests/slurm.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slcluster.errors import BlockError
from slcluster.jobs import coordinator
from slcluster.jobs.coordinator import lead
from slcluster.jobs.folder import RunFolder
from slcluster.jobs.submission import cancel
from slcluster.store.lease import Lease

_NOTING = '#!/bin/sh\necho "{name} $*" >> {folder}/asked\n{rest}\n'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    """A run that was handed in as job 12, seen from within it. sbatch gives number 13."""
    commands = tmp_path / "bin"
    commands.mkdir()
    answers = {"sbatch": "echo 13", "squeue": "echo 'RUNNING n1'", "scancel": ""}
    for name, rest in answers.items():
        (commands / name).write_text(_NOTING.format(name=name, folder=tmp_path, rest=rest))
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    run = RunFolder.beside(tmp_path / "maps.zarr")
    run.create({run.script: "#!/bin/sh\n"}, {"kind": "slurm"})
    run.add_job("12", n_done=0)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line does
    yield run
    signal.signal(signal.SIGTERM, before)


def asked(run: RunFolder) -> list[str]:
    """What the queue was asked to do, apart from states."""
    noted = run.path.parent / "asked"
    lines = noted.read_text().splitlines() if noted.exists() else []
    return [line for line in lines if not line.startswith("squeue")]


def handed_in(run: RunFolder) -> str:
    return f"sbatch --dependency=afterany:12 --parsable {run.script}"


def test_a_follow_up_waits_while_it_works_and_is_called_off_at_the_end(run: RunFolder) -> None:
    during = []
    lead(run, lambda: during.extend(asked(run)))
    assert during == [handed_in(run)]
    assert asked(run) == [handed_in(run), "scancel 13"]
    assert run.coordinator()["outcome"] == "finished"
    assert run.coordinator()["job"] == "12"
    assert run.jobs()[1] == {"job": "13", "follows": "12", "n_done": 0}


def test_a_failure_ends_the_run(run: RunFolder) -> None:
    def fail() -> None:
        raise BlockError("sub-01, block 3: it\nfailed")

    with pytest.raises(BlockError):
        lead(run, fail)
    assert asked(run)[-1] == "scancel 13"
    assert run.coordinator()["outcome"] == "failed"
    assert run.coordinator()["error"] == "sub-01, block 3: it failed"


def test_out_of_time(run: RunFolder) -> None:
    lead(run, lambda: time.sleep(300), stop_after_s=0.3)  # returns: nothing is wrong
    assert asked(run) == [handed_in(run)]
    assert run.coordinator()["outcome"] == "stopped"


def test_stopped_by_somebody(run: RunFolder) -> None:
    with pytest.raises(KeyboardInterrupt):
        lead(run, lambda: signal.raise_signal(signal.SIGTERM), stop_after_s=300)
    assert asked(run) == [handed_in(run)]
    assert run.coordinator()["outcome"] == "stopped"


def test_cancelled_in_mid_run(run: RunFolder) -> None:
    def cancelled() -> None:
        run.cancel()
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        lead(run, cancelled)
    assert asked(run)[-1] == "scancel 13"
    assert run.coordinator()["outcome"] == "cancelled"


def test_cancelled_from_where_the_queue_cannot_be_asked(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its coordinator hears of it all the same, and tells itself to stop, once."""
    monkeypatch.setattr(coordinator, "_REPORT_S", 0.1)
    monkeypatch.setattr(coordinator, "_SIGNAL_S", 0.2)

    def cancelled() -> None:
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("PATH", "")
            assert cancel(run.out) == []
        try:
            time.sleep(300)
        finally:
            time.sleep(1)  # puts things in order

    with pytest.raises(KeyboardInterrupt):
        lead(run, cancelled)
    assert "Slurm cannot be asked for job 12 from here (no squeue here): it ends by itself" in caplog.text
    assert asked(run)[-1] == "scancel 13"
    assert run.coordinator()["outcome"] == "cancelled"


def test_cancelled_before_it_began(run: RunFolder) -> None:
    run.cancel()
    lead(run, lambda: pytest.fail("it worked"))
    assert asked(run) == []
    assert run.coordinator() == {}


def test_the_third_without_a_block_is_the_last(
    run: RunFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "14")
    run.add_job("13", n_done=0, follows="12")
    run.add_job("14", n_done=0, follows="13")
    lead(run, lambda: None)
    assert asked(run) == []
    assert "2 coordinators ended without a new block" in caplog.text
    run.add_job("15", n_done=0)  # somebody submitted it again
    monkeypatch.setenv("SLURM_JOB_ID", "15")
    lead(run, lambda: None)
    assert asked(run)[0] == handed_in(run).replace(":12", ":15")


def test_a_job_that_is_started_again_has_its_follow_up(run: RunFolder) -> None:
    run.add_job("13", n_done=0, follows="12")
    lead(run, lambda: None)
    assert handed_in(run) not in asked(run)


def test_workers_of_a_coordinator_that_was_killed_are_ended(run: RunFolder) -> None:
    run.write_coordinator({"job": "11", "workers": ["7", "8"]})
    lead(run, lambda: None)
    assert asked(run) == [handed_in(run), "scancel 7", "scancel 8", "scancel 13"]


def test_a_queue_that_takes_no_more(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    sbatch = run.path.parent / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2\nexit 1\n")
    lead(run, lambda: None)
    assert "nobody will go on when this job ends early" in caplog.text
    assert "QOSMaxSubmitJobPerUserLimit" in caplog.text
    assert run.coordinator()["outcome"] == "finished"


def test_two_coordinators_take_turns(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The queue believes that the one before has gone. Its workers are its own until it has."""
    monkeypatch.setattr(coordinator, "_HELD_S", 0.1)
    run.write_coordinator({"job": "11", "workers": ["7"]})
    order: list[str] = []
    with Lease(run.path):
        second = threading.Thread(target=lead, args=(run, lambda: order.append("second")))
        second.start()
        while "another coordinator is at work" not in caplog.text:
            time.sleep(0.05)
        order.append("first")
        run.write_coordinator({"job": "11", "workers": ["7"], "ended": 1.0})
    second.join(60)
    assert order == ["first", "second"]
    assert "scancel 7" not in asked(run)
    assert run.coordinator()["job"] == "12"


def test_cancelled_while_another_is_at_work(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "_HELD_S", 0.1)
    with Lease(run.path):
        threading.Timer(0.3, run.cancel).start()
        with pytest.raises(KeyboardInterrupt):
            lead(run, lambda: pytest.fail("it worked"))
    assert run.coordinator() == {}
    assert asked(run)[-1] == "scancel 13"
