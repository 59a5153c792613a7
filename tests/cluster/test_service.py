"""A cluster that stays: who gets in, who shares it, and how it ends. One is started for most of these tests."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import xarray as xr
from distributed import Client, Security

import slcluster as slc
from slcluster.cluster import connect
from slcluster.cluster.security import issue_credentials
from slcluster.cluster.service import (
    Service,
    client_of,
    describe_service,
    find_service,
    is_service,
    list_services,
    scale_service,
    service_folder,
    stop_service,
    write_record,
)
from slcluster.cluster.serving import launch
from slcluster.errors import InputError, SlclusterError
from slcluster.jobs.submission import resubmit
from slcluster.store import write_array_store
from tests.cluster.gated import Gated
from tests.conftest import OBLIQUE, has_ended
from tests.faults.driving import FORKING, N_BLOCKS, OPTIONS, same
from tests.witness import noise_dataset

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 300.0


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for clusters of these tests alone, whose workers can import the tests."""
    folder = tmp_path_factory.mktemp("home") / "slcluster"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLCLUSTER_HOME", str(folder))
        # No empty one among them, which would be the current folder.
        paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield folder


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[Service]:
    (home.parent / "queue.py").write_text("raise RuntimeError('taken for a module of Python')")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home.parent)
        service = launch("lab", "local", workers=1, memory="1GB")
    yield service
    if is_service("lab"):
        stop_service("lab")
    wait_until(lambda: has_ended(service.pid))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_array_store(
        noise_dataset(affine=OBLIQUE), tmp_path_factory.mktemp("service") / "subject.zarr"
    )


def test_clients_come_and_go(lab: Service) -> None:
    for _ in range(2):
        with slc.attach("lab") as client:
            assert client.submit(sum, [1, 2]).result() == 3
            assert [about["memory_limit"] for about in client.scheduler_info()["workers"].values()] == [10**9]
    with connect("lab") as client:
        assert client.submit(sum, [1, 3]).result() == 4
    assert find_service("lab") == lab


def test_nobody_gets_in_without_its_keys(lab: Service, tmp_path: Path) -> None:
    assert lab.address is not None
    assert lab.address.startswith("tls://127.0.0.1:")
    foreign = issue_credentials(tmp_path / "foreign").security()
    plain = lab.address.replace("tls://", "tcp://")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    for address, security in ((lab.address, foreign), (lab.address, Security.temporary()), (plain, None)):
        with pytest.raises(OSError):
            Client(address, security=security, timeout=3, set_as_default=False)
    with slc.attach("lab") as client:
        assert client.submit(sum, [1, 2]).result() == 3


def test_everything_listens_on_loopback(lab: Service) -> None:
    process = psutil.Process(lab.pid)
    listening = [
        ipaddress.ip_address(connection.laddr.ip)
        for each in (process, *process.children(recursive=True))
        for connection in each.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3  # scheduler, dashboard, worker
    assert all(address.is_loopback for address in listening)


def test_files_are_for_their_owner_alone(lab: Service, home: Path) -> None:
    folder = service_folder("lab")
    assert lab.log == folder / "log"
    for path in (home, folder, lab.credentials):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    private = [folder / "record.json", folder / "log", *lab.credentials.glob("*.key")]
    assert len(private) == 5
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("slurm", "cannot be called slurm: that is a kind of profile"),
        ("lab.yaml", "cannot be called 'lab.yaml'; a name has letters"),
        ("../lab", "cannot be called '../lab'"),
        ("", "cannot be called ''"),
        ("lab", r"a cluster called lab is running on .* \(process \d+\); use it with --cluster lab, stop it"),
    ],
)
def test_names_that_are_refused(lab: Service, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        launch(name, "local")
    assert find_service("lab") == lab


def test_a_profile_is_checked_before_anything_starts(lab: Service) -> None:
    with pytest.raises(InputError, match="unknown cluster 'lbl'.*did you mean lab"):
        launch("other", "lbl")
    assert not is_service("other")


def test_the_nearest_name_is_offered(lab: Service) -> None:
    with pytest.raises(InputError, match="no cluster is called 'lba'; did you mean lab?"):
        slc.attach("lba")
    with pytest.raises(InputError, match="did you mean lab?"), connect("lba"):
        pass
    with pytest.raises(InputError, match="no cluster is called 'x/y'"):
        stop_service("x/y")


def test_it_is_not_another_cluster_to_start(lab: Service) -> None:
    with pytest.raises(
        InputError, match=r"lab is a cluster that runs already; use slcluster.attach\('lab'\)"
    ):
        slc.make_cluster("lab")
    with (
        pytest.raises(InputError, match="lab is a cluster that runs already; workers"),
        connect("lab", workers=3),
    ):
        pass
    with pytest.raises(InputError, match="lab is a cluster that runs already; start one of a profile"):
        launch("other", "lab")
    with pytest.raises(InputError, match="lab is a cluster that runs already and takes no jobs"):
        resubmit("maps.zarr", "lab")


def test_a_cluster_on_the_loopback_of_another_machine(lab: Service) -> None:
    with pytest.raises(SlclusterError, match="cluster lab listens on node7 alone, and this is"):
        client_of(lab.model_copy(update={"host": "node7"}))


def test_it_is_scaled(lab: Service) -> None:
    assert describe_service(lab) == {"workers": 1, "wanted": 1, "runs": []}
    scale_service("lab", 2)
    wait_until(lambda: describe_service(lab)["workers"] == 2)
    scale_service("lab", 1)
    wait_until(lambda: describe_service(lab)["workers"] == 1)
    with pytest.raises(InputError, match="0 or more, got -1"):
        scale_service("lab", -1)
    scale_service("lab", 0)
    with pytest.raises(SlclusterError, match="cluster lab has no worker; ask for some"):
        slc.attach("lab")
    scale_service("lab", 1)
    slc.attach("lab").close()


def test_a_silent_one_whose_process_lives_is_not_gone(lab: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slcluster.store.lease.SILENCE_S", -1.0)
    assert lab.state == "running"


def test_a_frozen_one_is_stopped_when_it_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = launch("frozen", "local", workers=1)
    monkeypatch.setattr("slcluster.cluster.service.ANSWER_S", 1.0)
    monkeypatch.setattr("slcluster.cluster.service.STOP_S", 0.0)
    os.kill(service.pid, signal.SIGSTOP)
    try:
        with pytest.raises(SlclusterError, match="cluster frozen was asked to stop and has not ended"):
            stop_service("frozen")
    finally:
        os.kill(service.pid, signal.SIGCONT)
    wait_until(lambda: has_ended(service.pid))
    assert not is_service("frozen")


def test_one_whose_record_was_removed_ends(home: Path) -> None:
    """Somebody elsewhere stopped it while it gave no sign of life."""
    service = launch("forgotten", "local", workers=1)
    (service_folder("forgotten") / "record.json").unlink()
    wait_until(lambda: has_ended(service.pid))
    assert "forgotten stopped: somebody stopped it while" in (service_folder("forgotten") / "log").read_text()


def test_jobs_of_a_killed_one_are_called_off(
    lab: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("squeue", "echo 'PENDING (Priority)'"), ("scancel", f"echo $1 >> {tmp_path}/asked")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    write_record(
        lab.model_copy(
            update={"name": "killed", "kind": "slurm", "jobs": ("7", "8"), "credentials": tmp_path / "tls"}
        )
    )
    stop_service("killed")
    assert (tmp_path / "asked").read_text().split() == ["7", "8"]
    assert not is_service("killed")


def drive(home: Path, store: Path, out: Path, gate: Path) -> None:
    """A run in a process of its own."""
    os.environ["SLCLUSTER_HOME"] = str(home)
    with slc.attach("lab") as client:
        slc.searchlight(slc.open_store(store), out=out, estimator=Gated(str(gate)), client=client, **OPTIONS)


def blocks_in_order(*results: Path) -> str:
    """Which result each block belongs to, in the order in which they were written."""
    written = [
        (chunk.stat().st_mtime_ns, str(number))
        for number, result in enumerate(results)
        for chunk in (result / "n_unconverged" / "c").glob("*/0")
    ]
    return "".join(number for _, number in sorted(written))


def test_runs_share_it_block_for_block(lab: Service, home: Path, store: Path, tmp_path: Path) -> None:
    """Two drivers, one worker of one thread. All blocks of a run are in one window, which arrival alone puts first."""
    outs, gate = [tmp_path / "first.zarr", tmp_path / "second.zarr"], tmp_path / "gate"
    drivers = []
    for n_runs, out in enumerate(outs, 1):
        driver = FORKING.Process(target=drive, args=(home, store, out, gate))
        driver.start()
        drivers.append(driver)
        wait_until(lambda n=n_runs: len(describe_service(lab)["runs"]) == n)
    names, left = zip(*describe_service(lab)["runs"], strict=True)
    assert names == ("array", "array")
    gate.touch()
    for driver in drivers:
        driver.join(PATIENCE_S)
    assert [driver.exitcode for driver in drivers] == [0, 0]
    order = blocks_in_order(*outs)
    assert len(order) == 2 * N_BLOCKS
    together = order[order.index("1") : order.rindex("0") + 1]
    assert together.count("0") >= min(left) - 3, "the second run was there long before the first ended"
    ahead = [together[:n].count("0") - together[:n].count("1") for n in range(len(together) + 1)]
    assert max(ahead) - min(ahead) <= 3, order
    results: list[xr.Dataset] = [slc.open_result(path) for path in outs]
    assert same(*results)


def test_it_stops_when_nothing_was_computed(home: Path) -> None:
    """Work keeps it, a client that is connected does not."""
    service = launch("brief", "local", workers=1, idle_timeout="4s")
    family = [child.pid for child in psutil.Process(service.pid).children(recursive=True)]
    with client_of(service) as client:
        assert client.submit(time.sleep, 5).result() is None
        assert service.state == "running"
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        wait_until(lambda: not is_service("brief"))
    wait_until(lambda: service.state == "gone")
    assert not service.credentials.exists()
    assert [path.name for path in service_folder("brief").iterdir()] == ["log"]
    wait_until(lambda: all(map(has_ended, family)))
    with pytest.raises(InputError, match=r"the log of an earlier one ends: .* brief stopped: no work for 4s"):
        slc.attach("brief")
    assert [each.name for each in list_services()] in (["lab"], [])


def test_a_cluster_that_cannot_start_says_why(home: Path, tmp_path: Path) -> None:
    profile = tmp_path / "odd.yaml"
    profile.write_text("kind: local\nworkers: 1\nextra: {dashbord: 1}\n")
    with pytest.raises(
        InputError, match=r"cluster odd did not start: extra \(dashbord\) is not what Dask takes"
    ):
        launch("odd", profile)
    assert not is_service("odd")
    assert [path.name for path in service_folder("odd").iterdir()] == ["log"]
    plain = tmp_path / "plain.yaml"
    plain.write_text("kind: local\nworkers: 1\nextra: {protocol: tcp, security: null}\n")
    with pytest.raises(InputError, match="a cluster that stays speaks TLS alone"):
        launch("plain", plain)
    assert not is_service("plain")
