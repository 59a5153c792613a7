"""Where the servers of a batch cluster listen, and what becomes of its certificates."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client

import slcluster as slc
from slcluster.cluster import job_script
from slcluster.cluster.addresses import (
    address_towards,
    host_of,
    interface_address,
    is_loopback,
    own_address,
)
from slcluster.cluster.kinds import SlurmProfile
from slcluster.cluster.listening import listening_host, refuse_plain
from slcluster.errors import InputError

pytest.importorskip("dask_jobqueue")

#: A batch system that starts what it is given here and now.
SBATCH = """#!/bin/sh
[ "$1" = --test-only ] && exit 0
script=$(mktemp -p "$SLCLUSTER_HOME") && cp "$1" "$script"
setsid bash "$script" > "$script.log" 2>&1 &
echo "Submitted batch job $!"
"""

LOOPBACK = "lo" if "lo" in psutil.net_if_addrs() else "lo0"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", '#!/bin/sh\nkill -- "-$1"\n')):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLCLUSTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def listening(process: psutil.Process) -> set[str]:
    return {
        connection.laddr.ip
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }


def profile(tmp_path: Path, text: str = "") -> Path:
    path = tmp_path / "slurm.yaml"
    path.write_text(f"kind: slurm\ninterface: {LOOPBACK}\n{text}")
    return path


def test_a_batch_cluster_from_start_to_end(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "queue.py").write_text("raise RuntimeError('taken for a module of Python')")
    with slc.make_cluster(profile(tmp_path)) as cluster, Client(cluster) as client:
        client.wait_for_workers(1, timeout=300)
        (issued,) = (home / "tls").iterdir()
        assert {stat.S_IMODE(file.stat().st_mode) for file in issued.iterdir()} == {0o600}
        assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
        (worker,) = client.scheduler_info(n_workers=-1)["workers"].values()
        assert worker["nanny"].startswith("tls://127.0.0.1:")
        # Workers have no tests to import from.
        theirs = [client.run(ask).popitem()[1] for ask in (os.getpid, os.getppid)]
        processes = [psutil.Process(pid) for pid in (os.getpid(), *theirs)]
        assert [listening(process) for process in processes] == [{"127.0.0.1"}] * 3, "driver, worker, nanny"
        assert cluster.dashboard_link.startswith("http://127.0.0.1:")
        script = cluster.job_script()
        for flag, name in (("ca-file", "ca.pem"), ("cert", "worker.pem"), ("key", "worker.key")):
            assert f"--tls-{flag} {issued / name}" in script
        assert not list(tmp_path.rglob(".dask-jobqueue*")), "dask-jobqueue's own copies outlive the run"
    assert not list((home / "tls").iterdir())


def test_no_certificates_stay_where_no_cluster_came_to_be(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho no such partition >&2\nexit 1\n")
    with pytest.raises(InputError, match="no such partition"):
        slc.make_cluster(profile(tmp_path))
    with pytest.raises(InputError, match=r"extra \(odd\) is not what Dask takes"):
        slc.make_cluster(profile(tmp_path, "extra: {odd: 1}\n"))
    assert not list((home / "tls").iterdir())


def test_certificates_where_the_profile_says(home: Path, tmp_path: Path) -> None:
    place = tmp_path / "shared"
    script = job_script(profile(tmp_path, f"credentials_directory: {place}\n"))
    assert f"--tls-ca-file {place}/<run>/ca.pem" in script
    assert not place.exists(), "looking writes nothing"
    with pytest.raises(InputError, match=r"with space.* cannot be named in a job script"):
        slc.make_cluster(profile(tmp_path, f"credentials_directory: {tmp_path}/with space\n"))
    assert not list((tmp_path / "with space").iterdir())


def test_workers_listen_towards_the_scheduler_without_an_interface(tmp_path: Path) -> None:
    path = tmp_path / "slurm.yaml"
    path.write_text("kind: slurm\n")
    script = job_script(path, scheduler="tls://10.1.2.3:8786")
    python = shlex.quote(sys.executable)
    assert f"--host `{python} -m slcluster.cluster.towards 10.1.2.3`" in script
    assert "--dashboard-address 127.0.0.1:0" in script
    assert "export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True" in script


# --- TLS off


def test_without_tls_on_loopback_alone(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "tls: false, and the scheduler would listen on {}: without TLS anybody who reaches"
    monkeypatch.setattr("slcluster.cluster.listening.own_address", lambda: "10.0.0.7")
    with pytest.raises(InputError, match=text.format("10.0.0.7")):
        listening_host(SlurmProfile(tls=False))
    everywhere = {"scheduler_options": {"host": "0.0.0.0"}}
    with pytest.raises(InputError, match=text.format("0.0.0.0")):
        listening_host(SlurmProfile(tls=False, interface=LOOPBACK, extra=everywhere))
    with caplog.at_level(logging.WARNING, "slcluster"):
        assert listening_host(SlurmProfile(tls=False, interface=LOOPBACK)) == "127.0.0.1"
    assert [record.getMessage()[:10] for record in caplog.records] == ["TLS is off"]
    script = job_script(profile(tmp_path, "tls: false\n"))
    assert "dask_worker tcp://" in script
    assert "--tls" not in script


def test_plain_servers_of_ours_beyond_loopback() -> None:
    refuse_plain("tcp://127.0.0.1:1")
    refuse_plain("tls://10.0.0.7:1")
    with pytest.raises(InputError, match=r"tcp://10.0.0.7:1: without TLS anybody .*; remove from extra"):
        refuse_plain("tcp://10.0.0.7:1")


@pytest.mark.parametrize("key", ["protocol", "security", "shared_temp_directory"])
def test_one_way_to_say_it(key: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"extra must not hold {key}: tls and credentials_directory say it"):
        job_script(profile(tmp_path, f"extra: {{{key}: 1}}\n"))


# --- addresses


def test_own_address_is_one_that_others_may_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces = {"lo": "127.0.0.1", "eth0": "10.0.0.7", "ib0": "10.1.0.7"}

    class Address:
        family = socket.AF_INET

        def __init__(self, address: str) -> None:
            self.address = address

    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {k: [Address(v)] for k, v in interfaces.items()})

    def resolves(*addresses: str) -> Any:
        return lambda *_, **__: [(socket.AF_INET, 0, 0, "", (address, 0)) for address in addresses]

    monkeypatch.setattr("slcluster.cluster.addresses.address_towards", lambda host: "10.0.0.7")
    monkeypatch.setattr(socket, "getaddrinfo", resolves("127.0.1.1", "10.9.9.9", "10.1.0.7"))
    assert own_address() == "10.1.0.7", "neither Debian's loopback nor another machine's"
    monkeypatch.setattr(socket, "getaddrinfo", resolves("127.0.1.1"))
    assert own_address() == "10.0.0.7"
    monkeypatch.setattr("slcluster.cluster.addresses.address_towards", lambda host: "127.0.0.1")
    with pytest.raises(InputError, match="other machines cannot reach this one.*interface"):
        own_address()


def test_addresses() -> None:
    assert address_towards("127.0.0.1") == interface_address(LOOPBACK) == "127.0.0.1"
    assert host_of("tls://[::1]:1") == "::1"
    assert is_loopback("localhost")
    assert not is_loopback("no-such-host.invalid")
    with pytest.raises(
        InputError, match=f"interface 'ib9' has no address on this machine; it has .*{LOOPBACK}"
    ):
        interface_address("ib9")
