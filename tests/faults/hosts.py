"""Hosts of a small network, each a network namespace of this machine, and cables to pull.

All of them see the same files. ``sbatch`` and ``scancel`` of :func:`batch_system` are a batch system as small as
can be: it starts a job's own script on one of two hosts.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["WORKERS", "Network", "batch_system", "network"]

SCHEDULER, WORKERS = "s", ("w1", "w2")


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Network:
    """A switch, and a host for the scheduler and each worker, on cables of their own."""

    def __init__(self, name: str) -> None:
        self._name = f"slc{os.getpid()}-{name}"

    def space(self, host: str) -> str:
        """The namespace of a host."""
        return f"{self._name}-{host}"

    def make(self) -> None:
        switch = self.space("switch")
        ip("netns", "add", switch)
        ip("-n", switch, "link", "add", "br0", "type", "bridge")
        ip("-n", switch, "link", "set", "br0", "up")
        for number, host in enumerate((SCHEDULER, *WORKERS), start=1):
            space = self.space(host)
            ip("netns", "add", space)
            ip("-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", host, "netns", switch)
            ip("-n", space, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                ip("-n", space, "link", "set", link, "up")
            ip("-n", space, "route", "add", "default", "dev", "eth0")
            ip("-n", switch, "link", "set", host, "master", "br0", "up")

    def pull(self, host: str) -> None:
        """Pull the cable of a host: nothing arrives any more, and nobody is told."""
        ip("-n", self.space("switch"), "link", "set", host, "down")

    def plug(self, host: str) -> None:
        ip("-n", self.space("switch"), "link", "set", host, "up")

    def kill(self, host: str) -> None:
        """End everything on a host at once."""
        for pid in ip("netns", "pids", self.space(host)).split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue

    def listening(self, host: str) -> list[str]:
        """Addresses, as the kernel writes them in hexadecimal, that somebody on a host listens on."""
        tables = ip("netns", "exec", self.space(host), "cat", "/proc/net/tcp", "/proc/net/tcp6")
        rows = [line.split() for line in tables.splitlines()]
        return [row[1].partition(":")[0] for row in rows if row[3] == "0A"]

    def remove(self) -> None:
        there = {line.split()[0] for line in ip("netns", "list").splitlines()}
        for host in (SCHEDULER, *WORKERS, "switch"):
            if self.space(host) in there:
                self.kill(host)
                ip("netns", "delete", self.space(host))


@contextmanager
def network(name: str) -> Iterator[Network]:
    """A network for a test; the test is skipped where none can be made."""
    if shutil.which("ip") is None:
        pytest.skip("hosts are network namespaces: install Debian's iproute2")
    made = Network(name)
    try:
        try:
            made.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(
                f"hosts are network namespaces, which iproute2 may not make here: {error.stderr.strip()}"
            )
        yield made
    finally:
        made.remove()


SBATCH = """#!/bin/sh
# Starts a job on the host with the fewest, of those that are not marked as down.
[ "$1" = --test-only ] && exit 0
cd {folder}
exec 9> lock && flock 9  # several are submitted at once
for host in {hosts}; do
  [ -e down-$host ] || echo "$(cat on-$host 2>/dev/null | while read job; do
    kill -0 $job 2>/dev/null && echo busy; done | wc -l) $host"
done | sort -n | head -n 1 | {{
  read count host
  number=$(($(cat number 2>/dev/null || echo 0) + 1)); echo $number > number
  cp "$1" script-$number
  ip netns exec {prefix}$host setsid bash script-$number > job-$number.log 2>&1 9>&- &
  echo $! >> on-$host; echo $! > job-$number
  echo "Submitted batch job $number"
}}
"""

SCANCEL = "#!/bin/sh\nkill -- -$(cat {folder}/job-$1)\n"


def batch_system(made: Network, folder: Path) -> Path:
    """A folder for the PATH with the commands of a batch system that starts jobs on the workers' hosts."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    words = {"folder": shlex.quote(str(folder)), "hosts": " ".join(WORKERS), "prefix": made.space("")}
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (commands / name).write_text(text.format(**words))
        (commands / name).chmod(0o755)
    return commands
