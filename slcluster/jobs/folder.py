"""What a submitted run keeps beside its result, so that any machine that sees the store can find it.

``OUT.run/`` is there before the result is, and its place follows from the result's path alone::

    job.yaml           the job as it was submitted; absent where a result is resumed from its store alone
    profile.yaml       the cluster that it was submitted to
    cluster.yaml       the cluster that the coordinator starts: the same, or workers inside its own job
    coordinator.sh     the batch job
    record.json        kind of queue, machine and user that submitted
    jobs.jsonl         a line for every coordinator that was handed in, oldest first
    coordinator.json   what the last coordinator to run says of itself, written again and again
    lease.json         held by the coordinator that runs
    cancelled          present once the run was cancelled
    logs/              what the jobs print; coordinator.log is that of all coordinators, one after the other
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

from slcluster.cluster.home import private_folder, refuse_seen_by_others
from slcluster.errors import InputError, SlclusterError, StorePathError, cannot_write

__all__ = ["RunFolder"]


class RunFolder:
    """The folder of one submitted run.

    Parameters
    ----------
    path : path

    Examples
    --------
    >>> str(RunFolder.beside("results/maps.zarr").path)[-14:]
    '/maps.zarr.run'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        self.job_file = self.path / "job.yaml"
        self.profile_file = self.path / "profile.yaml"
        self.cluster_file = self.path / "cluster.yaml"
        self.script = self.path / "coordinator.sh"
        self.logs = self.path / "logs"
        self.coordinator_log = self.logs / "coordinator.log"
        self._record = self.path / "record.json"
        self._jobs = self.path / "jobs.jsonl"
        self._coordinator = self.path / "coordinator.json"
        self._cancelled = self.path / "cancelled"

    @classmethod
    def beside(cls, out: str | Path) -> RunFolder:
        """That of the result, or the folder of results, at ``out``."""
        out = Path(out).expanduser().resolve()
        if not out.name:
            raise InputError(f"{out} is no result: expected a store, or a folder of stores")
        return cls(out.with_name(f"{out.name}.run"))

    @property
    def out(self) -> Path:
        """Where the result is."""
        return self.path.with_name(self.path.name.removesuffix(".run"))

    @property
    def exists(self) -> bool:
        """Whether a run was submitted, as far as may be seen: it is nobody's business but its owner's."""
        return os.access(self._record, os.R_OK)

    def create(self, texts: dict[Path, str], record: dict[str, Any]) -> None:
        """Make the folder, or begin again in it. Logs and the list of jobs stay.

        Parameters
        ----------
        texts : mapping of Path to str
            Files of the folder and what is in them.
        record : mapping
            Never changed until the run is submitted again.

        Raises
        ------
        InputError
            As :meth:`refuse_foreign`.
        StoreError
            It cannot be written.
        """
        # Certificates and addresses of a cluster pass through here: nobody else reads it.
        private_folder(self.path)
        self.refuse_foreign()
        try:
            self.logs.mkdir(exist_ok=True)
            for path, text in texts.items():
                path.write_text(text)
            if self.job_file not in texts:
                self.job_file.unlink(missing_ok=True)
            self.script.chmod(0o700)  # OAR executes it
            self._coordinator.unlink(missing_ok=True)
            self._cancelled.unlink(missing_ok=True)
            _replace(self._record, record)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def refuse_foreign(self) -> None:
        """Refuse a folder that somebody else could have filled: what is in it says what is executed as us.

        Raises
        ------
        InputError
            It belongs to somebody else, others can enter it, or a link in it leads elsewhere.
        """
        refuse_seen_by_others(self.path)
        for path in self.path.rglob("*"):
            if path.is_symlink():
                raise InputError(f"{path} is a link, and the folder of a run holds none; remove it")

    def record(self) -> dict[str, Any]:
        """What :meth:`create` was given.

        Raises
        ------
        StorePathError
            No run was submitted there.
        """
        found = _read(self._record)
        if not found:
            raise StorePathError(
                f"no run was submitted for {self.out} ({self.path} is not there); submit one: slcluster submit"
            )
        return found

    def add_job(self, job: str, *, n_done: int, follows: str | None = None) -> None:
        """Remember a coordinator that was handed in.

        Parameters
        ----------
        job : str
        n_done : int
            Blocks that were done then.
        follows : str, optional
            The coordinator that handed it in; none where a person did.
        """
        line = json.dumps({"job": job, "follows": follows, "n_done": n_done})
        with self._jobs.open("a") as file:
            # On a line of its own, also after one that a full disk cut off.
            file.write(f"\n{line}\n")

    def jobs(self) -> list[dict[str, Any]]:
        """Coordinators that were handed in since somebody last submitted the run, oldest first.

        Numbers before that are of a queue that need not be this one's.
        """
        try:
            lines = self._jobs.read_text().splitlines()
        except FileNotFoundError:
            return []
        found: list[dict[str, Any]] = []
        for made in filter(None, map(_job_in, lines)):
            found = [*(found if made["follows"] else []), made]
        return found

    def write_coordinator(self, about: dict[str, Any]) -> None:
        """Say what the coordinator that runs now is."""
        _replace(self._coordinator, about)

    def coordinator(self) -> dict[str, Any]:
        """What the last coordinator that ran said of itself; empty before the first."""
        return _read(self._coordinator)

    def cancel(self) -> None:
        """Tell every coordinator, also one that starts this moment, that it must not go on."""
        try:
            self._cancelled.touch()
        except OSError as error:
            raise cannot_write(self._cancelled, error) from error

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled.exists()

    def last_line(self) -> str | None:
        """The last line of the log that was written to last."""
        for path in sorted(self.log_files(), key=lambda path: path.stat().st_mtime, reverse=True):
            if said := path.read_text(errors="replace").strip():
                return " ".join(said.splitlines()[-1].split())
        return None

    def log_files(self) -> list[Path]:
        """Logs that say something: the coordinators' first, then those of jobs."""
        found = [path for path in self.logs.glob("*") if path.is_file() and path.stat().st_size]
        return sorted(found, key=lambda path: (path != self.coordinator_log, path.name))


def _job_in(line: str) -> dict[str, Any] | None:
    """What a line of the list of jobs says; None where it was cut off."""
    try:
        made = json.loads(line)
    except ValueError:
        return None
    return made if isinstance(made, dict) and {"job", "follows", "n_done"} <= set(made) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SlclusterError(f"cannot read {path}: {error}") from error
    return found if isinstance(found, dict) else {}


def _replace(path: Path, content: dict[str, Any]) -> None:
    """Write a file that readers see whole or not at all."""
    fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        fresh.write_text(f"{json.dumps(content, indent=1)}\n")
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
