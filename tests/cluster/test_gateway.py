"""A dask-gateway server for real, with the configuration of deploy/ and workers as processes of this machine.

The server is not among our dependencies. In an environment of its own:

    python3 -m venv gateway && gateway/bin/pip install -c constraints.txt -e ".[test,gateway]" \
        "dask-gateway-server[local]" && gateway/bin/pytest -n 0 tests/cluster/test_gateway.py
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import slcluster as slc

pytestmark = pytest.mark.skipif(
    find_spec("dask_gateway_server") is None or find_spec("dask_gateway") is None,
    reason="dask-gateway-server is not installed; the head of this file says how to run these tests",
)

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "gateway" / "dask_gateway_config.py"
DEADLINE_S = 300
PASSWORD = "of a test"

#: What differs from the site's file: processes instead of batch jobs, and addresses of this machine that are free.
HERE = """
load_subconfig({file!r})
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.Proxy.address = "127.0.0.1:{port}"
c.UnsafeLocalBackend.clusters_directory = {clusters!r}
c.UnsafeLocalBackend.inherited_environment = ["PATH", "PYTHONPATH"]
c.ClusterConfig.scheduler_cmd = [{python!r}, "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = [{python!r}, "-m", "distributed.cli.dask_worker"]
"""


class Server(NamedTuple):
    """A gateway, and a profile for it."""

    address: str
    profile: Path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gateway")
    port = free_port()
    (folder / "clusters").mkdir()
    (folder / "here.py").write_text(
        HERE.format(
            file=str(CONFIGURATION), port=port, clusters=str(folder / "clusters"), python=sys.executable
        )
    )
    log = folder / "server.log"
    words = [sys.executable, "-m", "dask_gateway_server", "--config", str(folder / "here.py")]
    env = {**os.environ, "DASK_GATEWAY_PASSWORD": PASSWORD}
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, env=env, cwd=folder)
    try:
        end = time.monotonic() + DEADLINE_S
        while "Dask-Gateway server started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        profile = folder / "gateway.yaml"
        profile.write_text(
            f"kind: gateway\naddress: http://127.0.0.1:{port}\nauth: basic\nworkers: 1\ncores: 1\nmemory: 2GiB\n"
        )
        yield Server(f"http://127.0.0.1:{port}", profile)
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def slcluster(*words: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    """The command, as a user whom Dask's configuration knows."""
    env = {
        **os.environ,
        "DASK_GATEWAY__AUTH__KWARGS__USERNAME": "lab",
        "DASK_GATEWAY__AUTH__KWARGS__PASSWORD": password,
    }
    return subprocess.run(
        [sys.executable, "-m", "slcluster", *words], capture_output=True, text=True, check=False, env=env
    )


def test_a_map_through_the_gateway_is_that_of_one_process(server: Server, tmp_path: Path) -> None:
    brain = slc.simulate(shape=(7, 8, 9), n_runs=4, n_informative=1, seed=0)
    chosen = slc.select(brain, conditions=["face", "house"])
    alone = slc.searchlight(chosen, radius_mm=5.6).score.compute()
    from slcluster.io.export import write_images

    write_images(brain, tmp_path / "files")
    done = slcluster(
        *("searchlight", str(tmp_path / "subject.zarr"), "--out", str(tmp_path / "result.zarr")),
        *(
            "--bold",
            str(tmp_path / "files" / "bold.nii.gz"),
            "--mask",
            str(tmp_path / "files" / "mask.nii.gz"),
        ),
        *("--labels", str(tmp_path / "files" / "labels.txt"), "--conditions", "face,house"),
        *("--radius-mm", "5.6", "--cluster", str(server.profile)),
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(slc.open_result(tmp_path / "result.zarr").score.values, alone.values)
    assert not clusters(server), "the command leaves no cluster behind"


def clusters(server: Server) -> list[str]:
    from dask_gateway import BasicAuth, Gateway

    with Gateway(server.address, auth=BasicAuth("lab", PASSWORD)) as gateway:
        return [report.name for report in gateway.list_clusters()]


def test_a_wrong_password_is_one_line(server: Server) -> None:
    refused = slcluster("cluster", str(server.profile), password="another")
    assert refused.returncode == 1
    assert refused.stderr.startswith("slcluster: error: the gateway gives no cluster: ")
    assert len(refused.stderr.splitlines()) == 1


def test_an_option_that_the_server_lacks_is_named(server: Server, tmp_path: Path) -> None:
    profile = tmp_path / "gateway.yaml"
    profile.write_text(f"{server.profile.read_text()}extra: {{gpus: 1}}\n")
    refused = slcluster("cluster", str(profile))
    assert refused.returncode == 2
    assert "no option 'gpus'; its options: environment, worker_cores, worker_memory" in refused.stderr


def test_who_asks_for_too_much_is_told(server: Server, tmp_path: Path) -> None:
    refused = slcluster("cluster", str(server.profile), "--memory", "500GiB")
    assert refused.returncode in (1, 2)
    assert "worker_memory" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
