"""A real Grid Engine of one host: no systemd, nothing outside its folder, gone with the process.

    python -m tests.cluster.sge.throwaway FOLDER        prints how to reach it, stops it on Ctrl-C

Its daemons listen on every interface. Keep them to a network of their own with: unshare --net sh -c "ip link set
lo up && ..."
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Debian's packages, as an argument list of apt-get install.
PACKAGES = "gridengine-master gridengine-exec gridengine-client"

SLOTS = 8
START_S = 120.0

#: Where Debian has what is to be found below SGE_ROOT.
_HOME = Path("/var/lib/gridengine")
_LIBRARY = Path("/usr/lib/gridengine")
_SHARE = Path("/usr/share/gridengine")

_BOOTSTRAP = """\
admin_user none
default_domain none
ignore_fqdn true
spooling_method classic
spooling_lib libspoolc
spooling_params {root}/default/common;{root}/qmaster
binary_path /usr/sbin
qmaster_spool_dir {root}/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
#: Without thresholds of load: a machine that runs tests is busy.
_QUEUE = {"hostlist": "{host}", "slots": f"{SLOTS}", "pe_list": "smp", "load_thresholds": "NONE"}
_ENVIRONMENT = f"""\
pe_name smp
slots {SLOTS}
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule $pe_slots
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
"""


def missing_programs() -> list[str]:
    """Programs that the packages would bring and that are not here."""
    wanted = {"gridengine-master": "sge_qmaster", "gridengine-exec": "sge_execd", "gridengine-client": "qsub"}
    return [program for program in wanted.values() if not (_LIBRARY / program).exists()]


@contextmanager
def running_sge(folder: Path) -> Iterator[dict[str, str]]:
    """A running Grid Engine.

    Yields
    ------
    dict
        Environment variables that lead to it.
    """
    engine = _Engine(folder)
    try:
        engine.start()
        yield engine.variables
    finally:
        engine.stop()


class _Engine:
    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.host = socket.gethostname()
        ports = random.sample(range(18000, 32000), 2)
        self.variables = {
            "SGE_ROOT": str(folder),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": str(ports[0]),
            "SGE_EXECD_PORT": str(ports[1]),
        }
        self._environ = {**os.environ, **self.variables, "SGE_ND": "1"}  # ND: no daemon of its own
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._lay_out()
        self._run("/usr/sbin/sge_qmaster")
        _await(lambda: self._says("qconf", "-sh") is not None, "sge_qmaster")
        self._configure()
        self._run("/usr/sbin/sge_execd")
        _await(self._has_a_free_queue, "sge_execd")

    def stop(self) -> None:
        """End the jobs, then the daemons, each by its own process id."""
        if self._running:
            self._says("qdel", "-f", "-u", "*")
            deadline = time.monotonic() + 10.0
            while self._says("qstat", "-u", "*") and time.monotonic() < deadline:
                time.sleep(0.2)
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _lay_out(self) -> None:
        common = self.root / "default" / "common"
        for path in (common, self.root / "qmaster" / "job_scripts", self.root / "execd"):
            path.mkdir(parents=True)
        for name in ("bin", "lib", "utilbin", "util"):
            (self.root / name).symlink_to(_HOME / name)
        (common / "bootstrap").write_text(_BOOTSTRAP.format(root=self.root))
        (common / "act_qmaster").write_text(f"{self.host}\n")
        # Loopback has names of its own, and daemons go by the name that an address has.
        name, aliases, _ = socket.gethostbyaddr("127.0.0.1")
        others = " ".join(sorted({name, "localhost", *aliases} - {self.host}))
        (common / "host_aliases").write_text(f"{self.host} {others}\n")
        text = (_SHARE / "default-configuration").read_text()
        changes = {"execd_spool_dir": str(self.root / "execd"), "min_uid": "0", "min_gid": "0"}
        changes |= {"load_report_time": "00:00:02", "mailer": "/bin/true"}
        global_conf = self.root / "configuration"
        global_conf.write_text(_changed(text, changes))
        resources = _SHARE / "util" / "resources"
        self._call(
            _LIBRARY / "spoolinit", "classic", "libspoolc", f"{common};{self.root / 'qmaster'}", "init"
        )
        for what, source in (
            ("configuration", global_conf),
            ("complexes", resources / "centry"),
            ("usersets", resources / "usersets"),
            ("managers", _user()),
        ):
            self._call(_LIBRARY / "spooldefaults", what, source)

    def _configure(self) -> None:
        """One host, one parallel environment, one queue, and a scheduler that looks every second."""
        self._call("qconf", "-as", self.host)
        self._add("-Mp" if "smp" in (self._says("qconf", "-spl") or "") else "-Ap", _ENVIRONMENT)
        scheduler = self._says("qconf", "-ssconf") or ""
        self._add("-Msconf", _changed(scheduler, {"schedule_interval": "0:0:1", "schedd_job_info": "true"}))
        queue = self._says("qconf", "-sq") or ""
        values = {name: value.format(host=self.host) for name, value in _QUEUE.items()}
        self._add("-Aq", _changed(queue, {"qname": "all.q", **values}))

    def _add(self, option: str, text: str) -> None:
        path = self.root / f"qconf{option}"
        path.write_text(text)
        self._call("qconf", option, path)

    def _has_a_free_queue(self) -> bool:
        lines = (self._says("qstat", "-f") or "").splitlines()
        rows = [line.split() for line in lines if line.startswith("all.q@")]
        return bool(rows) and len(rows[0]) == 5  # a sixth column would say what is wrong with it

    def _run(self, program: str) -> None:
        words = ["setpriv", "--pdeathsig", "TERM", program]  # it ends with us, also when we are killed
        with (self.root / "daemons.log").open("ab") as log:
            self._running.append(
                subprocess.Popen(words, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def _call(self, *words: str | Path) -> None:
        done = subprocess.run(
            [str(word) for word in words], env=self._environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))}: {done.stdout} {done.stderr}")

    def _says(self, *words: str) -> str | None:
        done = subprocess.run(words, env=self._environ, capture_output=True, text=True, check=False)
        return None if done.returncode else done.stdout


def _changed(text: str, values: dict[str, str]) -> str:
    """Lines ``name value`` with other values."""
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return "".join(f"{name} {values.get(name, value)}\n" for name, value in lines)


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} was not ready after {START_S:.0f} s")
        time.sleep(0.1)


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place = Path(sys.argv[1]).absolute()
    shutil.rmtree(place, ignore_errors=True)
    with running_sge(place) as found:
        print(*(f"export {name}={value}" for name, value in found.items()), sep="\n", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()
