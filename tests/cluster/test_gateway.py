"""A real dask-gateway server with its local backend: pip install 'dask-gateway-server[local,all]' dask-gateway

The server may live in an environment of its own; its command must be on the PATH.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from slcluster.cluster import connect
from slcluster.errors import InputError, SlclusterError
from tests.cluster.smoke import same_map_as_here

CONFIG = """
from dask_gateway_server.options import Float, Integer, Options
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.UnsafeLocalBackend.clusters_directory = {folder!r}
c.DaskGateway.address = "127.0.0.1:{ports[0]}"
c.Proxy.address = "127.0.0.1:{ports[1]}"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.SimpleAuthenticator.password = "secret"
c.ClusterConfig.scheduler_cmd = [{python!r}, "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = [{python!r}, "-m", "distributed.cli.dask_worker"]
def asked_for(options):
    return {{"worker_cores": options.worker_cores, "worker_memory": f"{{options.worker_memory}} G"}}
c.Backend.cluster_options = Options(
    Integer("worker_cores", 1, min=1), Float("worker_memory", 1, min=0.1), handler=asked_for
)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a gateway."""
    pytest.importorskip("dask_gateway", reason="no dask-gateway: pip install dask-gateway")
    if shutil.which("dask-gateway-server") is None:
        pytest.skip("no dask-gateway-server: pip install 'dask-gateway-server[local,all]'")
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "clusters").mkdir()
    ports = free_ports(2)
    config = folder / "dask_gateway_config.py"
    config.write_text(CONFIG.format(folder=str(folder / "clusters"), ports=ports, python=sys.executable))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["dask-gateway-server", "--config", str(config)], cwd=folder, stdout=log, stderr=log
        )
    try:
        address = f"http://127.0.0.1:{ports[1]}"
        deadline = time.monotonic() + 300
        while not answers(f"{address}/api/version"):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "the gateway never answered"
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def profile(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile of the gateway; who we are is in Dask's configuration, as the page says."""
    monkeypatch.setenv("DASK_GATEWAY__AUTH__KWARGS__PASSWORD", "secret")
    monkeypatch.setenv("DASK_GATEWAY__AUTH__KWARGS__USERNAME", "ann")
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"kind: gateway\naddress: {server}\nauth: basic\nworkers: 2\ncores: 1\nmemory: 1GiB\nstart_timeout: 5m\n"
    )
    return path


def test_a_searchlight(profile: Path, tmp_path: Path) -> None:
    same_map_as_here(tmp_path, profile)


def test_an_option_that_the_server_does_not_have(profile: Path, password: None) -> None:
    profile.write_text(profile.read_text() + "extra: {profil: large}\n")
    with (
        pytest.raises(InputError, match="has no option 'profil'; its options: worker_cores, worker_memory"),
        connect(profile),
    ):
        pass


@pytest.fixture
def password() -> Iterator[None]:
    """Dask reads variables when it is imported; this process has it already."""
    import dask

    with dask.config.set({"gateway.auth.kwargs": {"username": "ann", "password": "secret"}}):
        yield


def test_a_wrong_password(profile: Path) -> None:
    import dask

    with (
        dask.config.set({"gateway.auth.kwargs": {"username": "ann", "password": "wrong"}}),
        pytest.raises(SlclusterError, match="the gateway gives no cluster: .*(401|Unauthorized)"),
        connect(profile),
    ):
        pass


def test_nobody_at_the_address(profile: Path, password: None) -> None:
    profile.write_text("kind: gateway\naddress: http://127.0.0.1:9\nauth: basic\n")
    with pytest.raises(InputError, match="no dask-gateway at http://127.0.0.1:9: .*"), connect(profile):
        pass
