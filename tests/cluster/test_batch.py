"""The batch job as text, held whole."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
import yaml
from click.testing import CliRunner

from slcluster.cli import cli
from slcluster.cluster.batch import _job_options, job_script, lifetime_s, make_job
from slcluster.cluster.kinds import KINDS
from slcluster.cluster.profiles import load_profile
from slcluster.cluster.security import issue_credentials
from slcluster.cluster.systems import SYSTEMS
from slcluster.errors import InputError

pytest.importorskip("dask_jobqueue")

import dask_jobqueue

from slcluster.cluster.replacing import replacing_cluster

SCRIPTS = Path(__file__).parent / "scripts"


@pytest.fixture(autouse=True)
def _no_site_settings() -> Iterator[None]:
    """A jobqueue.yaml of whoever runs the tests must not change the text."""
    defaults = yaml.safe_load((Path(dask_jobqueue.__file__).parent / "jobqueue.yaml").read_text())
    with dask.config.set({f"jobqueue.{kind}": defaults["jobqueue"][kind] for kind in SYSTEMS}):
        yield


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "profile.yaml"


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_job_script(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(cli, ["cluster", str(SCRIPTS / f"{kind}.yaml"), "--dry-run"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout == (SCRIPTS / f"{kind}.txt").read_text()
    assert not list(tmp_path.iterdir())  # looking writes nothing


@pytest.mark.parametrize("kind", SYSTEMS)
def test_every_key_of_a_batch_system_is_in_its_script(kind: str) -> None:
    keys = set(yaml.safe_load((SCRIPTS / f"{kind}.yaml").read_text()))
    assert set(KINDS[kind].model_fields) - keys == {"adapt", "start_timeout", "coordinator"} | (
        {"queue"} - keys
    )


def test_flags_change_the_script() -> None:
    script = job_script(SCRIPTS / "slurm.yaml", threads=1, memory="3GB", scheduler="tcp://login:1234")
    assert "--cpus-per-task=2\n" in script
    assert "--mem=6G\n" in script
    assert "dask_worker tcp://login:1234 " in script
    assert "--nthreads 1 --memory-limit 2.79GiB" in script


@pytest.mark.parametrize("kind", SYSTEMS)
def test_the_cluster_submits_the_script_of_the_dry_run(kind: str, profile: Path) -> None:
    text = (SCRIPTS / f"{kind}.yaml").read_text().replace("interface: ib0", "interface: lo")
    profile.write_text(text.replace(", scheduler_options: {port: 8786}", ""))
    options = _job_options(load_profile(profile), "127.0.0.1", issue_credentials(profile.parent / "tls"))
    with replacing_cluster(kind)(
        scheduler_options={"dashboard_address": "127.0.0.1:0"}, **options
    ) as cluster:
        real = cluster.job_script().replace("dummy-name", "slcluster-worker")
    real = re.sub(r"tls://[0-9.:]+", "tls://<scheduler>:<port>", real)
    real = real.replace(f"{profile.parent}/tls/", "/shared/me/tls/<run>/")
    assert real == job_script(profile)


@pytest.mark.parametrize("kind", SYSTEMS)
def test_another_command_under_the_same_header(kind: str) -> None:
    """A coordinator is a job too."""
    profile = load_profile(SCRIPTS / f"{kind}.yaml")
    plain, other = make_job(profile).job_script(), make_job(profile, command="echo 'here I am'").job_script()
    assert "distributed" not in other
    assert "here I am" in other
    if kind != "htcondor":  # where the command is an argument, after the prologue
        assert other.splitlines()[:-1] == plain.splitlines()[:-1]
        assert other.splitlines()[-1] == "echo 'here I am'"
    else:
        assert other.partition("Arguments")[0] == plain.partition("Arguments")[0]
        assert "export SUBJECT=" in other


def test_workers_retire_before_the_walltime() -> None:
    for walltime in (60, 600, 3600, 4 * 3600, 7 * 86400):
        lifetime, stagger = lifetime_s(walltime)
        assert 0 < lifetime - stagger < lifetime + stagger < walltime


@pytest.mark.parametrize("folder", ["a b", "a\ntouch x\n#", "a'b", "%j", "$(id)", "a;b"])
def test_a_folder_of_logs_that_no_job_script_holds(folder: str) -> None:
    profile = load_profile(SCRIPTS / "slurm.yaml").model_copy(update={"log_directory": f"/shared/{folder}"})
    with pytest.raises(InputError, match="cannot stand in a job script, as the folder of logs must"):
        make_job(profile)


@pytest.mark.parametrize("spec", ["local", "tcp://127.0.0.1:8786"])
def test_what_has_no_job_script(spec: str) -> None:
    with pytest.raises(InputError, match=f"{spec} submits no batch job"):
        job_script(spec)


def test_an_unknown_keyword_is_named(profile: Path) -> None:
    profile.write_text("kind: slurm\nextra: {wall: 1}\n")
    with pytest.raises(InputError, match=r"extra \(wall\) is not what Dask takes: .*wall"):
        job_script(profile)


def test_without_dask_jobqueue_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", None)
    with pytest.raises(InputError, match=r"pip install 'slcluster\[batch\]'"):
        job_script("slurm")


def test_ctrl_c_stays_what_it_was() -> None:
    """dask-jobqueue makes it sys.exit() when it is imported."""
    text = "import signal; from slcluster.cluster import job_script; job_script('slurm'); print(signal.getsignal(2))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert "default_int_handler" in done.stdout
