"""The files that a site copies: each must be what the package takes."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import dask
import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from slcluster.cli import cli
from slcluster.cli.clusters import describe
from slcluster.cluster import connect
from slcluster.cluster.kinds import KINDS
from slcluster.cluster.profiles import load_profile, profile_schema
from slcluster.jobs import ClusterOptions, Job, load_job

DEPLOY = Path(__file__).parents[2] / "deploy"


def uncommented(path: Path) -> dict[str, object]:
    """The file with its commented-out examples in force."""
    lines = []
    for line in path.read_text().splitlines():
        example = re.match(r"# ( *(?:[a-zA-Z_]+:|- ).*)$", line)
        lines.append(example[1] if example else line)
    return yaml.safe_load("\n".join(lines))


@pytest.mark.parametrize(("kind", "model"), KINDS.items())
def test_profiles_load_also_with_every_example_in_force(kind: str, model: type, tmp_path: Path) -> None:
    name = f"{kind}.yaml"
    assert isinstance(load_profile(DEPLOY / name), model)
    full = uncommented(DEPLOY / name)
    hidden = set(model.model_fields) - set(full)
    assert hidden == ({"queue"} if kind == "htcondor" else set()), "a key that the profile does not show"
    full["extra"] = full["extra"] or {}
    if "adapt" in full:
        del full["workers"]  # there for a fixed number instead
    path = tmp_path / name
    path.write_text(yaml.safe_dump(full))
    assert isinstance(load_profile(path), model)
    jsonschema.validate(full, profile_schema())
    assert describe(ClusterOptions(cluster=str(path)))


def test_the_local_profile_works() -> None:
    with connect(DEPLOY / "local.yaml") as client:
        assert len(client.nthreads()) == 2


def test_the_slurm_profile_as_the_command_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # which is no place of modules
    monkeypatch.delenv("SLCLUSTER_HOME", raising=False)
    dask_jobqueue = pytest.importorskip("dask_jobqueue")
    defaults = yaml.safe_load((Path(dask_jobqueue.__file__).parent / "jobqueue.yaml").read_text())
    with dask.config.set({"jobqueue.slurm": defaults["jobqueue"]["slurm"]}):  # not the settings of this site
        shown = CliRunner().invoke(cli, ["cluster", str(DEPLOY / "slurm.yaml"), "--dry-run"])
    assert shown.exit_code == 0
    script = shown.stdout.replace(shlex.quote(sys.executable), "PYTHON").replace(
        "tls://<scheduler>:<port>", "SCHEDULER"
    )
    assert (
        script
        == """\
#!/usr/bin/env bash

#SBATCH -J slcluster
#SBATCH -p normal
#SBATCH -n 1
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH -t 04:00:00
#SBATCH --no-requeue
#SBATCH -o slcluster-logs/slcluster-%j.out
#SBATCH -e slcluster-logs/slcluster-%j.err
export PYTHONSAFEPATH=1
export OMP_NUM_THREADS=1
export OPENBLAS_NUM_THREADS=1
export MKL_NUM_THREADS=1
export NUMBA_NUM_THREADS=1
export DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP=11s
export DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT=5s
export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False
export DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL=500ms
export DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL=2s
export DASK_DISTRIBUTED__WORKER__PROFILE__INTERVAL=500ms
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True
PYTHON -m distributed.cli.dask_worker SCHEDULER --name slcluster-worker --nthreads 1 --memory-limit 1.86GiB \
--nworkers 4 --nanny --death-timeout 60 --lifetime 12300s --lifetime-stagger 1800s --dashboard-address 127.0.0.1:0 \
--host `PYTHON -m slcluster.cluster.towards <scheduler>` --protocol tls:// \
--tls-ca-file ~/.slcluster/tls/<run>/ca.pem --tls-cert ~/.slcluster/tls/<run>/worker.pem \
--tls-key ~/.slcluster/tls/<run>/worker.key
"""
    )


def test_the_job_file_loads() -> None:
    job = load_job(DEPLOY / "job.yaml")
    assert job.store == [DEPLOY / "stores" / "sub-01.zarr"]
    assert job.cluster == str(DEPLOY / "local.yaml")


def test_the_schema_of_profiles_is_the_models() -> None:
    """Written by: python -c "import json; from slcluster.cluster.profiles import profile_schema; print(json.dumps(profile_schema(), indent=2))"."""
    assert json.loads((DEPLOY / "profile.schema.json").read_text()) == profile_schema()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"kind": "slurm", "quee": "x"}, profile_schema())


def test_the_schema_of_jobs_is_the_models() -> None:
    """Written by: python -c "import json; from slcluster.jobs import Job; print(json.dumps(Job.model_json_schema(), indent=2))"."""
    assert json.loads((DEPLOY / "job.schema.json").read_text()) == Job.model_json_schema()
