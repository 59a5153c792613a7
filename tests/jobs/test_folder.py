"""What a submitted run keeps beside its result: whole through torn writes, and nobody else's."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from slcluster.cluster.kinds import BatchProfile, LocalProfile
from slcluster.cluster.profiles import load_profile
from slcluster.cluster.queues import State, queue_of
from slcluster.errors import InputError
from slcluster.jobs.folder import RunFolder
from slcluster.jobs.situation import situation
from slcluster.jobs.submission import cancel, coordinator_script, resubmit


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.beside(tmp_path / "maps.zarr")


def begun(run: RunFolder) -> RunFolder:
    run.create({run.script: "#!/bin/sh\n"}, {"kind": "local"})
    return run


def test_a_line_that_was_cut_off_costs_that_line_alone(run: RunFolder) -> None:
    begun(run).add_job("12", n_done=0)
    with (run.path / "jobs.jsonl").open("a") as file:
        file.write('{"job": "13", "fol')
    run.add_job("14", n_done=3, follows="12")
    assert [made["job"] for made in run.jobs()] == ["12", "14"]


def test_jobs_before_it_was_submitted_again_are_of_another_queue(run: RunFolder) -> None:
    begun(run)
    for job, follows in (("12", None), ("13", "12"), ("99.1@here", None), ("100.1@here", "99.1@here")):
        run.add_job(job, n_done=0, follows=follows)
    assert [made["job"] for made in run.jobs()] == ["99.1@here", "100.1@here"]


def test_a_folder_that_others_can_write_is_not_used(run: RunFolder) -> None:
    run.path.mkdir(mode=0o755)
    with pytest.raises(InputError, match=r"is open to others \(mode 0755\).*chmod 700"):
        begun(run)
    run.path.chmod(0o700)
    begun(run)
    run.path.chmod(0o770)
    for use in (resubmit, cancel):
        with pytest.raises(InputError, match="is open to others"):
            use(run.out)


def test_what_a_link_leads_to_is_not_overwritten(run: RunFolder, tmp_path: Path) -> None:
    run.path.mkdir(mode=0o700)
    mine = tmp_path / "mine"
    mine.write_text("kept")
    run.script.symlink_to(mine)
    with pytest.raises(InputError, match=r"coordinator.sh is a link, and the folder of a run holds none"):
        begun(run)
    assert mine.read_text() == "kept"


def test_no_code_is_taken_from_it(run: RunFolder, tmp_path: Path) -> None:
    run.path.mkdir(mode=0o700)
    (run.path / "yaml.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    run.create({run.script: coordinator_script(run, LocalProfile())}, {"kind": "local"})
    run.cancel()  # it says so and ends
    subprocess.run(["/bin/sh", run.script], check=True)
    assert "this run was cancelled" in run.coordinator_log.read_text()
    assert not (tmp_path / "sprung").exists()


def test_the_root_has_nothing_beside_it() -> None:
    with pytest.raises(InputError, match="/ is no result"):
        RunFolder.beside("/")


def test_a_coordinator_that_never_began_says_why(run: RunFolder) -> None:
    script = f"cd {run.path} && exec /no/such/python >>{run.coordinator_log} 2>&1\n"
    run.create({run.script: script}, {"kind": "local", "user": "me", "host": "here"})
    queue = queue_of("local")
    run.add_job(job := queue.submit(run.script), n_done=0)
    while queue.state(job).state is not State.GONE:
        time.sleep(0.05)
    assert "never began; the log ends:" in str(situation(run))
    assert "/no/such/python" in str(situation(run))


def test_keys_lie_where_who_submits_has_them(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every batch system passes SLCLUSTER_HOME on to the coordinator."""
    monkeypatch.setenv("SLCLUSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "sbatch").write_text("#!/bin/sh\n[ $1 = --test-only ] || echo 12\n")
    (tmp_path / "sbatch").chmod(0o755)
    (tmp_path / "slurm.yaml").write_text("kind: slurm\ninterface: lo\n")
    resubmit(run.out, tmp_path / "slurm.yaml")
    found = load_profile(run.cluster_file)
    assert isinstance(found, BatchProfile)
    assert found.credentials_directory == str(tmp_path / "home" / "tls")


def test_subjects_that_were_not_begun_are_counted(run: RunFolder) -> None:
    stores = "store: [sub-01.zarr, sub-02.zarr, sub-03.zarr]\n"
    run.create({run.script: "", run.job_file: stores}, {"kind": "local", "user": "me", "host": "here"})
    assert "3 more to come, of which nothing has been computed" in str(situation(run))
