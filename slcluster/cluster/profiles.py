"""Profiles: what a cluster is made of, as a small YAML file that a site can copy and edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from dask.utils import parse_bytes
from pydantic import BaseModel, Field, PositiveInt, TypeAdapter

from slcluster.cluster.documents import read_yaml, validated
from slcluster.cluster.kinds import KINDS, BatchProfile, LocalProfile, Profile
from slcluster.cluster.quantities import Size
from slcluster.cluster.service import unknown_service
from slcluster.errors import InputError

__all__ = ["is_address", "load_profile", "profile_schema"]


class _Asked(BaseModel):
    """What a command or a call asks for, of each worker but the first."""

    workers: PositiveInt | None = None
    threads: PositiveInt | None = None
    memory: Size | None = None


def is_address(spec: str | Path) -> bool:
    """Whether a cluster is given as the address of a scheduler that runs already: ``tcp://host:port``."""
    return "://" in str(spec)


def profile_schema() -> dict[str, Any]:
    """JSON Schema of a profile, as ``deploy/profile.schema.json`` holds it."""
    return TypeAdapter(Annotated[Profile, Field(discriminator="kind")]).json_schema()


def load_profile(
    spec: str | Path, *, workers: int | None = None, threads: int | None = None, memory: str | None = None
) -> Profile:
    """The profile that a name or a file stands for, with what was asked for on top.

    Parameters
    ----------
    spec : str or path
        A kind that works without a file (``"local"``, ``"slurm"``, ``"pbs"``, ...), or a YAML file that names
        its ``kind``.
    workers : int, optional
        Worker processes in all: a fixed number, also where the file has ``adapt``.
    threads : int, optional
        Threads of each worker.
    memory : str, optional
        Memory of each worker, such as ``"2GB"``.

    Returns
    -------
    LocalProfile, SlurmProfile or another one

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
    base = validated(KINDS[str(spec)], {}) if str(spec) in KINDS else _from_file(spec)
    changes: dict[str, Any] = {"workers": asked.workers, "memory": asked.memory}
    if isinstance(base, LocalProfile):
        changes["threads"] = asked.threads
    else:
        # What is asked for is of one worker; a batch job holds several.
        processes = base.processes if isinstance(base, BatchProfile) else 1
        changes["cores"] = None if asked.threads is None else asked.threads * processes
        if asked.memory is not None and processes > 1:
            changes["memory"] = f"{parse_bytes(asked.memory) * processes}B"
    changes = {name: value for name, value in changes.items() if value is not None}
    if "workers" in changes and not isinstance(base, LocalProfile):
        changes["adapt"] = None
    return validated(type(base), {**base.model_dump(exclude_unset=True), **changes, **_paths(base)})


def _paths(profile: Profile) -> dict[str, str]:
    """Paths of a profile as every process of the run finds them, wherever it starts. Nothing else expands ``~``."""
    if not isinstance(profile, BatchProfile):
        return {}
    found = {name: getattr(profile, name) for name in ("python", "log_directory", "credentials_directory")}
    paths = {name: str(Path(path).expanduser()) for name, path in found.items() if path and "/" in path}
    if (folder := profile.credentials_directory) is not None:
        paths["credentials_directory"] = str(Path(folder).expanduser().absolute())
    if "python" in paths:
        paths["python"] = str(Path(paths["python"]).absolute())
    return paths


def _from_file(spec: str | Path) -> Profile:
    path = Path(spec).expanduser()
    if not path.suffix and not path.exists():
        raise InputError(
            f"unknown cluster {str(spec)!r}; expected {', '.join(KINDS)}, a profile such as slurm.yaml, "
            "the address of a scheduler such as tcp://node7:8786, or a name that slcluster cluster start gave: "
            f"{unknown_service(str(spec))}"
        )
    document = read_yaml(path, "cluster profile")
    kind = document.data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        where = f"{path}:{document.line(['kind'])}" if "kind" in document.data else str(path)
        raise InputError(f"{where}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return validated(KINDS[kind], document.data, document=document)
