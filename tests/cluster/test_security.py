"""Certificates of a run, and who is let in with which."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from distributed import Client, LocalCluster

from slcluster.cli import cli
from slcluster.cluster import _security_at, connect
from slcluster.cluster.home import home_folder, private_folder
from slcluster.cluster.security import (
    ROLES,
    Credentials,
    _certificate,
    issue_credentials,
    issue_for_run,
    load_credentials,
)
from slcluster.errors import InputError, StoreError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- files


@pytest.fixture
def careless() -> Iterator[None]:
    """A umask with which everybody may read and write what is made without a mode."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_files_are_for_their_owner_alone(careless: None, tmp_path: Path) -> None:
    made = issue_credentials(tmp_path / "tls")
    assert mode(made.folder) == 0o700
    assert {file.name for file in made.folder.iterdir()} == {
        "ca.pem", "scheduler.pem", "scheduler.key", "worker.pem", "worker.key", "client.pem", "client.key",
    }  # fmt: skip
    assert {mode(file) for file in made.folder.iterdir()} == {0o600}


def test_nobody_can_sign_another_certificate(tmp_path: Path) -> None:
    made = issue_credentials(tmp_path)
    authority = x509.load_pem_x509_certificate(made.authority.read_bytes()).public_key()
    for role in ROLES:
        certificate = x509.load_pem_x509_certificate(made.certificate(role).read_bytes())
        key: Any = serialization.load_pem_private_key(made.key(role).read_bytes(), None)
        assert certificate.public_key() == key.public_key() != authority
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_removal_leaves_what_is_not_ours(tmp_path: Path) -> None:
    made = issue_credentials(tmp_path / "tls")
    (made.folder / "mine").touch()
    made.remove()
    assert [file.name for file in made.folder.iterdir()] == ["mine"]
    (made.folder / "mine").unlink()
    made.remove()
    made.remove()
    assert not made.folder.exists()


def test_each_run_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLCLUSTER_HOME", str(tmp_path / "home"))
    left_behind = issue_for_run(hours=1e-9)
    first, second = issue_for_run(), issue_for_run()
    assert first.folder.parent == second.folder.parent == tmp_path / "home" / "tls"
    assert first.authority.read_bytes() != second.authority.read_bytes()
    assert not left_behind.folder.exists(), "expired, of a run that was killed"
    first.authority.write_text("")  # as a full disk leaves it
    (first.folder.parent / "run-x").mkdir()
    (first.folder.parent / "run-x" / "ca.pem").symlink_to("gone")
    assert issue_for_run().folder.exists()
    with pytest.raises(InputError, match="holds credentials already; give each run a folder of its own"):
        issue_credentials(first.folder)


def test_the_home_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLCLUSTER_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home_folder() == tmp_path / ".slcluster"
    assert mode(home_folder()) == 0o700
    home_folder().chmod(0o750)
    with pytest.raises(InputError, match=r"is open to others \(mode 0750\), .*; close it: chmod 700 "):
        home_folder()


def test_nobody_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:  # as for a user without HOME and without an entry among the users
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SLCLUSTER_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(
        InputError, match="no home folder here; name a folder of your own with SLCLUSTER_HOME"
    ):
        home_folder()


def test_folders_that_cannot_be_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="a part of this path is a file"):
        private_folder(tmp_path / "file" / "tls")
    private_folder(tmp_path / "tls")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(InputError, match=f"belongs to user {owner}, and you are user {owner + 1}"):
        private_folder(tmp_path / "tls")


def test_what_is_no_credentials(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds no credentials \(ca.pem is missing\): they are there only while"
    ):
        load_credentials(tmp_path)
    made = issue_credentials(tmp_path / "tls")
    assert load_credentials(made.folder) == made
    made.key("client").chmod(0o640)
    with pytest.raises(InputError, match=r"client.key is open to others \(mode 0640\).*chmod 600"):
        load_credentials(made.folder)
    with pytest.raises(InputError, match=r"have expired \(20.* UTC\); start the cluster again"):
        load_credentials(issue_credentials(tmp_path / "old", hours=1e-9).folder)
    with pytest.raises(InputError, match="hours must be positive, got 0"):
        issue_credentials(tmp_path / "none", hours=0)


# --- who is let in


def issue_also_expired(folder: Path) -> tuple[Credentials, Credentials]:
    """Good credentials, and others that the same authority signed and that have expired."""
    now, ca_key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("authority", ca_key.public_key(), None, ca_key, now + timedelta(hours=1))
    made = []
    for name, end in (("good", now + timedelta(hours=1)), ("expired", now - timedelta(seconds=1))):
        credentials = Credentials(private_folder(folder / name))
        credentials.authority.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        for role in ROLES:
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = _certificate(role, key.public_key(), ca, ca_key, end)
            credentials.certificate(role).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
            credentials.key(role).write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            credentials.key(role).chmod(0o600)
        made.append(credentials)
    return made[0], made[1]


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Credentials]:
    folder = tmp_path_factory.mktemp("tls")
    good, expired = issue_also_expired(folder)
    return {"good": good, "expired": expired, "foreign": issue_credentials(folder / "foreign")}


@pytest.fixture(scope="module")
def cluster(issued: dict[str, Credentials]) -> Iterator[LocalCluster]:
    """A scheduler, and a worker with its nanny, as a batch job has them."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        host="127.0.0.1",
        protocol="tls://",
        security=issued["good"].security(),
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def servers(cluster: LocalCluster) -> dict[str, tuple[str, int]]:
    """Host and port of each server of the cluster that speaks Dask's protocol."""
    nanny = cluster.workers[0]
    addresses = {
        "scheduler": cluster.scheduler_address,
        "worker": nanny.worker_address,
        "nanny": nanny.address,
    }
    found = {}
    for name, address in addresses.items():
        assert address.startswith("tls://127.0.0.1:")
        found[name] = ("127.0.0.1", int(address.rpartition(":")[2]))
    return found


def first_answer(server: tuple[str, int], credentials: Credentials | None) -> bytes:
    """What a server says to somebody who believes everything. TLS 1.3 tells a client no at its first read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if credentials is not None:
        context.load_cert_chain(credentials.certificate("client"), credentials.key("client"))
    with socket.create_connection(server, timeout=60) as plain, context.wrap_socket(plain) as secured:
        return secured.recv(1)


@pytest.mark.parametrize("server", ["scheduler", "worker", "nanny"])
def test_a_server_refuses_whom_it_does_not_know(
    server: str, servers: dict[str, tuple[str, int]], issued: dict[str, Credentials]
) -> None:
    assert first_answer(servers[server], issued["good"]), "Dask's servers greet first"
    for credentials, reason in (
        (None, "CERTIFICATE_REQUIRED"),
        (issued["foreign"], "UNKNOWN_CA"),
        (issued["expired"], "CERTIFICATE_EXPIRED"),
    ):
        with pytest.raises(ssl.SSLError, match=f"(?i){reason.replace('_', '[ _]')}"):
            first_answer(servers[server], credentials)


@pytest.mark.parametrize("server", ["scheduler", "worker", "nanny"])
def test_a_server_says_nothing_in_plain(server: str, servers: dict[str, tuple[str, int]]) -> None:
    with socket.create_connection(servers[server], timeout=60) as plain:
        plain.sendall(bytes(64))
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(64)[:1] in (b"", b"\x15"), "neither an end nor a TLS alert"


def test_a_client_of_the_cluster_and_others(
    cluster: LocalCluster, issued: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = cluster.scheduler_address
    with connect(address, credentials=issued["good"].folder) as client:
        assert client.submit(sum, [1, 2]).result() == 3
    with (
        pytest.raises(
            InputError, match=r"no Dask scheduler answers .*are the credentials those of this cluster"
        ),
        connect(address, credentials=issued["foreign"].folder),
    ):
        pass
    with (
        pytest.raises(InputError, match="no Dask scheduler answers"),
        connect(address.replace("tls://", "tcp://")),
    ):
        pass


def test_the_command_line_takes_a_folder_of_credentials(
    cluster: LocalCluster, issued: dict[str, Credentials]
) -> None:
    words = ["cluster", cluster.scheduler_address]
    let_in = CliRunner().invoke(cli, [*words, "--credentials", str(issued["good"].folder)])
    assert (let_in.exit_code, "1 workers, all with this slcluster" in let_in.stdout) == (0, True)
    without = CliRunner().invoke(cli, words)
    assert (without.exit_code, "(--credentials FOLDER)" in without.stderr) == (2, True)


def test_a_plain_scheduler_elsewhere_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "slcluster"):
        assert _security_at("tcp://127.0.0.1:8786", None) is None
        assert not caplog.records
        assert _security_at("tcp://10.0.0.7:8786", None) is None
    (record,) = caplog.records
    assert "tcp://10.0.0.7:8786 is not encrypted and asks nobody who they are" in record.getMessage()


@pytest.mark.parametrize(
    ("where", "is_given", "message"),
    [
        ("tls://127.0.0.1:1", False, r"asks for a certificate; name the folder .* \(--credentials FOLDER\)"),
        ("tcp://127.0.0.1:1", True, "credentials are for tls:// addresses, and tcp://127.0.0.1:1 is not one"),
        ("local", True, "credentials are of a cluster that runs already, at tls://host:port, not of local"),
    ],
)
def test_credentials_where_they_belong(where: str, is_given: bool, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message), connect(where, credentials=tmp_path if is_given else None):
        pass


def test_workers_without_good_certificates_never_join(
    cluster: LocalCluster, issued: dict[str, Credentials], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", "--host", "127.0.0.1"]
    command += ["--dashboard-address", "127.0.0.1:0", "--death-timeout", "3"]
    plain = cluster.scheduler_address.replace("tls://", "tcp://")
    workers = {"plain": [*command, plain, "--name", "plain"]}
    for name in ("foreign", "expired"):
        files = issued[name]
        known = ("--tls-ca-file", issued["good"].authority, "--tls-cert", files.certificate("worker"))
        given = (*known, "--tls-key", files.key("worker"), "--name", name)
        workers[name] = [*command, cluster.scheduler_address, *map(str, given)]
    running = {
        name: subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL)
        for name, words in workers.items()
    }
    try:
        assert all(process.wait(timeout=300) for process in running.values()), "each ends with an error"
    finally:
        for process in running.values():
            process.kill()
    with Client(cluster, set_as_default=False) as client:
        events = client.run_on_scheduler(lambda dask_scheduler: str(dict(dask_scheduler.get_events())))
    assert not [name for name in running if name in events], "the scheduler never heard of them"
