"""Profiles: what a cluster is made of, as a small YAML file that a site can copy and edit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from dask.utils import parse_bytes, parse_timedelta
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, model_validator

from slcluster.cluster.documents import read_yaml, validated
from slcluster.errors import InputError

__all__ = ["LocalProfile", "Profile", "SlurmProfile", "is_address", "load_profile"]

#: What Slurm's ``-t`` takes: minutes, or [days-]hours:minutes:seconds with parts left out.
_WALLTIME = re.compile(r"\d+|\d+:\d+|\d+:\d+:\d+|\d+-\d+(:\d+){0,2}")


def _size(text: str) -> str:
    try:
        n_bytes = parse_bytes(text)
    except ValueError:
        n_bytes = 0
    if n_bytes <= 0:
        raise ValueError(f'expected a size such as "2GB", got {text!r}')
    return text


def _duration(text: str) -> str:
    try:
        parse_timedelta(text)
    except (ValueError, KeyError):
        raise ValueError(f'expected a time such as "90s" or "2h", got {text!r}') from None
    return text


def _walltime(text: str) -> str:
    if not _WALLTIME.fullmatch(text):
        raise ValueError(f'expected hours:minutes:seconds such as "01:30:00", or days-hours, got {text!r}')
    return text


Size = Annotated[str, AfterValidator(_size)]
Duration = Annotated[str, AfterValidator(_duration)]
Walltime = Annotated[str, AfterValidator(_walltime)]


class _Profile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    workers: PositiveInt | None = Field(default=None, description="worker processes in all")
    local_directory: str | None = Field(default=None, description="fast local disk for what workers spill")
    extra: dict[str, Any] = Field(default_factory=dict, description="passed on to the Dask cluster class")


class _Asked(BaseModel):
    """What a command or a call asks for, of each worker but the first."""

    workers: PositiveInt | None = None
    threads: PositiveInt | None = None
    memory: Size | None = None


class LocalProfile(_Profile):
    """Workers on this machine, as ``distributed.LocalCluster`` starts them. They listen on loopback alone.

    Attributes
    ----------
    kind : "local"
    workers : int, optional
        One for each core and thread where not given.
    threads : int
        Threads of each worker.
    memory : str, optional
        Of each worker; an even share of the machine's where not given.
    start_timeout : str
        How long to wait for workers, at the start and after losing all of them.
    local_directory : str, optional
    extra : mapping
        Keyword arguments of ``LocalCluster``.
    """

    kind: Literal["local"] = "local"
    threads: PositiveInt = 1
    memory: Size | None = None
    start_timeout: Duration = "60s"


class SlurmProfile(_Profile):
    """Batch jobs, as ``dask_jobqueue.SLURMCluster`` submits them. Each job holds ``processes`` workers.

    Attributes
    ----------
    kind : "slurm"
    workers : int, optional
        Workers in all, as many as one job holds where not given.
    cores, processes : int
        Of one job. Each of its workers has ``cores / processes`` threads.
    memory : str
        Of one job, shared by its workers.
    walltime : str
        Slurm's ``-t``.
    start_timeout : str
        How long jobs may wait in the queue before the analysis gives up.
    queue, account : str, optional
        Slurm's partition (``-p``) and account (``-A``).
    interface : str, optional
        Network interface that the nodes reach this one by, such as ``ib0``.
    local_directory, log_directory : str, optional
    prologue, directives : list of str
        Shell lines before the worker starts; further ``#SBATCH`` options.
    python : str, optional
        Interpreter on the nodes; this one where not given.
    extra : mapping
        Keyword arguments of ``SLURMCluster``.
    """

    kind: Literal["slurm"] = "slurm"
    cores: PositiveInt = 1
    processes: PositiveInt = 1
    memory: Size = "2GB"
    walltime: Walltime = "01:00:00"
    start_timeout: Duration = "1h"
    queue: str | None = None
    account: str | None = None
    interface: str | None = None
    log_directory: str | None = None
    prologue: list[str] = Field(default_factory=list)
    directives: list[str] = Field(default_factory=list)
    python: str | None = None

    @model_validator(mode="after")
    def _whole_threads(self) -> SlurmProfile:
        if self.cores % self.processes:
            raise ValueError(
                f"cores ({self.cores}) must be a multiple of processes ({self.processes}): "
                "each worker gets cores / processes threads"
            )
        return self

    @property
    def n_jobs(self) -> int:
        """Jobs that hold all the workers."""
        return -(-(self.workers or self.processes) // self.processes)


Profile = LocalProfile | SlurmProfile

_KINDS: dict[str, type[LocalProfile] | type[SlurmProfile]] = {"local": LocalProfile, "slurm": SlurmProfile}


def is_address(spec: str | Path) -> bool:
    """Whether a cluster is given as the address of a scheduler that runs already: ``tcp://host:port``."""
    return "://" in str(spec)


def load_profile(
    spec: str | Path, *, workers: int | None = None, threads: int | None = None, memory: str | None = None
) -> Profile:
    """The profile that a name or a file stands for, with what was asked for on top.

    Parameters
    ----------
    spec : str or path
        ``"local"``, ``"slurm"``, or a YAML file whose ``kind`` is one of them.
    workers : int, optional
        Worker processes in all.
    threads : int, optional
        Threads of each worker.
    memory : str, optional
        Memory of each worker, such as ``"2GB"``.

    Returns
    -------
    LocalProfile or SlurmProfile

    Raises
    ------
    InputError
        Unknown name or key (the nearest are offered, a file's with the line), or a value that does not fit.

    Examples
    --------
    >>> load_profile("slurm", workers=4, memory="3GB").n_jobs
    4
    """
    asked = validated(_Asked, {"workers": workers, "threads": threads, "memory": memory})
    base = _KINDS[str(spec)]() if str(spec) in _KINDS else _from_file(spec)
    changes: dict[str, Any] = {"workers": asked.workers, "memory": asked.memory}
    if isinstance(base, LocalProfile):
        changes["threads"] = asked.threads
    else:
        # What is asked for is of one worker; a job holds several.
        if asked.threads is not None:
            changes["cores"] = asked.threads * base.processes
        if asked.memory is not None:
            changes["memory"] = f"{parse_bytes(asked.memory) * base.processes}B"
    return base.model_copy(update={name: value for name, value in changes.items() if value is not None})


def _from_file(spec: str | Path) -> Profile:
    path = Path(spec).expanduser()
    if not path.suffix and not path.exists():
        raise InputError(
            f"unknown cluster {str(spec)!r}; expected local, slurm, a profile such as slurm.yaml, "
            "or the address of a scheduler such as tcp://node7:8786"
        )
    document = read_yaml(path, "cluster profile")
    kind = document.data.get("kind")
    if kind not in _KINDS:
        where = f"{path}:{document.line(['kind'])}" if "kind" in document.data else str(path)
        raise InputError(f"{where}: kind must be one of {', '.join(_KINDS)}, got {kind!r}")
    return validated(_KINDS[kind], document.data, document=document)
