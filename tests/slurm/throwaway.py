"""A real Slurm of several virtual nodes on this host: no root, no systemd, nothing outside its folder.

    python -m tests.slurm.throwaway FOLDER        prints how to reach it, stops it on Ctrl-C

Tests start the same command. It ends when nobody holds the lock file ``users`` in the folder any more, which the
operating system releases for a test process that was killed: daemons never outlive the tests.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Debian's packages, as an argument list of apt-get install.
PACKAGES = "slurm-wlm slurmd slurmctld slurm-client munge slurm-wlm-basic-plugins"

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")

N_NODES = 4
CPUS = 2
MEMORY_MB = 4000
START_S = 120.0

_CONF = """\
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=600
SlurmdTimeout=30
MessageTimeout=20
PartitionName=normal Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
PartitionName=short Nodes=n1 MaxTime=1 DefaultTime=1 State=UP
"""
_NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={memory} State=UNKNOWN\n"


def missing_programs() -> list[str]:
    """Programs that the packages would bring and that are not here."""
    return [name for name in PROGRAMS if shutil.which(name, path=_search_path()) is None]


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


@contextmanager
def shared_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A running Slurm, shared by the test processes that name the same folder.

    Yields
    ------
    dict
        Environment variables that lead to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    conf = folder / "slurm.conf"
    with _locked(folder / "users", fcntl.LOCK_SH), _locked(folder / "door", fcntl.LOCK_EX) as door:
        if not (folder / "ready").exists():
            with (folder / "throwaway.log").open("a") as log:
                words = [sys.executable, "-m", "tests.slurm.throwaway", str(folder), "--while-used"]
                process = subprocess.Popen(
                    words,
                    cwd=Path(__file__).parents[2],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            _await(lambda: (folder / "ready").exists() or process.poll() is not None, "Slurm")
            if not (folder / "ready").exists():
                raise RuntimeError(f"Slurm did not start: {(folder / 'throwaway.log').read_text()[-2000:]}")
        fcntl.flock(door, fcntl.LOCK_UN)
        yield {"SLURM_CONF": str(conf)}


@contextmanager
def _locked(path: Path, how: int) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, how)
        yield handle
    finally:
        os.close(handle)


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} was not ready after {START_S:.0f} s")
        time.sleep(0.05)


def _free_ports(n: int) -> list[int]:
    """Ports that nobody listens on, below those that systems hand out to connections."""
    taken: list[socket.socket] = []
    while len(taken) < n:
        candidate = socket.socket()
        try:
            candidate.bind(("127.0.0.1", random.randrange(18000, 32000)))
        except OSError:
            candidate.close()
        else:
            taken.append(candidate)
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


class Daemons:
    """The daemons of one Slurm, in the order in which they were started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": _search_path()}
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for name in ("state", *(f"spool/n{i + 1}" for i in range(N_NODES))):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._start_munge()
        host = socket.gethostname().partition(".")[0]
        ports = _free_ports(N_NODES + 1)
        user = _user()
        nodes = [
            _NODE.format(name=f"n{i + 1}", host=host, port=ports[i + 1], cpus=CPUS, memory=MEMORY_MB)
            for i in range(N_NODES)
        ]
        head, parts, tail = _CONF.partition("PartitionName=normal")
        conf = head.format(host=host, ports=ports, user=user, folder=self.folder)
        (self.folder / "slurm.conf").write_text(conf + "".join(nodes) + parts + tail)
        if self._call("slurmd", "-V").split()[-1] >= "23":  # earlier ones do not know that there may be none
            (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        self._run("slurmctld", "-D")
        for i in range(N_NODES):
            self._run("slurmd", "-D", "-N", f"n{i + 1}")
        _await(self._all_idle, "a node of Slurm")

    def stop(self) -> None:
        """End the jobs, then what was started here, last first, each by its own process id."""
        if len(self._running) > 1:
            self._call("scancel", f"--user={_user()}")
            deadline = time.monotonic() + 20.0
            while self._call("squeue", "--noheader").strip() and time.monotonic() < deadline:
                time.sleep(0.2)
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _start_munge(self) -> None:
        home, socket_path = self.folder / "munge", self.folder / "munge.socket"
        home.mkdir(mode=0o700, exist_ok=True)
        key = home / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        places = {"key-file": key, "socket": socket_path, "pid-file": home / "pid"}
        places |= {"log-file": home / "log", "seed-file": home / "seed"}
        # --force: it otherwise refuses a socket below folders that others may write, as temporary ones are.
        self._run("munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in places.items()))
        _await(socket_path.is_socket, "munge")

    def _run(self, program: str, *words: str) -> None:
        found = shutil.which(program, path=_search_path())
        assert found is not None
        with (self.folder / "daemons.log").open("ab") as log:
            self._running.append(
                subprocess.Popen(
                    [found, *words], env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            )

    def _call(self, *words: str) -> str:
        return subprocess.run(words, env=self.environ, capture_output=True, text=True, check=False).stdout

    def _all_idle(self) -> bool:
        for process in self._running:
            if process.poll() is not None:
                raise RuntimeError(
                    f"{process.args} ended: {(self.folder / 'daemons.log').read_text()[-2000:]}"
                )
        return (
            len(self._call("sinfo", "-h", "-N", "-p", "normal", "-t", "idle", "-o", "%N").split()) == N_NODES
        )


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def main(folder: Path, *, while_used: bool) -> None:
    """Keep a Slurm until it is no longer used, or until a signal."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    daemons, ready = Daemons(folder), folder / "ready"
    try:
        daemons.start()
        ready.touch()
        print(f"export SLURM_CONF={folder / 'slurm.conf'}", flush=True)
        if not while_used:
            signal.pause()
        with _locked(folder / "users", fcntl.LOCK_EX):
            ready.unlink()
            daemons.stop()
    except KeyboardInterrupt:
        pass
    finally:
        ready.unlink(missing_ok=True)
        daemons.stop()


if __name__ == "__main__":
    place = Path(sys.argv[1]).absolute()
    place.mkdir(parents=True, exist_ok=True)
    main(place, while_used="--while-used" in sys.argv)
