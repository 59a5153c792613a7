"""The user's folder for what outlives a process and is nobody else's: credentials, clusters that run by name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from slcluster.errors import InputError, cannot_write

__all__ = ["home_folder", "private_folder", "refuse_seen_by_others"]


def home_folder() -> Path:
    """The folder ``SLCLUSTER_HOME``, or ``~/.slcluster``: made where it is absent, for its owner alone.

    Nodes of a batch cluster read credentials from it, so it must lie on a file system that they share; home
    folders do as a rule.

    Returns
    -------
    Path
        Absolute.

    Raises
    ------
    InputError
        It belongs to somebody else, others can read it, or it is not a folder.
    StoreError
        It cannot be made.
    """
    if named := os.environ.get("SLCLUSTER_HOME"):
        return private_folder(named)
    try:
        home = Path.home()
    except RuntimeError:
        raise InputError(
            "you have no home folder here; name a folder of your own with SLCLUSTER_HOME"
        ) from None
    return private_folder(home / ".slcluster")


def private_folder(path: str | Path) -> Path:
    """A folder that only its owner may enter, made where it is absent.

    Parameters
    ----------
    path : path

    Returns
    -------
    Path
        Absolute.

    Raises
    ------
    InputError
        It belongs to somebody else, others can read it, or it is not a folder.
    StoreError
        It cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> made = private_folder(tempfile.mkdtemp() + "/mine")
    >>> stat.filemode(made.stat().st_mode)
    'drwx------'
    """
    path = Path(path).expanduser().absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
    refuse_seen_by_others(path)
    return path


def refuse_seen_by_others(path: Path) -> None:
    """Refuse a file or folder that is not ours, or that the group or the world may read, write or enter.

    Raises
    ------
    InputError
        Says whose it is, or its mode, and how to mend it.
    """
    about = path.stat()
    if about.st_uid != os.geteuid():
        raise InputError(
            f"{path} belongs to user {about.st_uid}, and you are user {os.geteuid()}: it could hold what "
            "is not yours; use a folder of your own (SLCLUSTER_HOME, or another place for the result)"
        )
    mode = stat.S_IMODE(about.st_mode)
    if mode & 0o077:
        kept = oct(mode & 0o700)[2:]
        raise InputError(
            f"{path} is open to others (mode {mode:04o}), and holds what gives access to your clusters; "
            f"close it: chmod {kept} {path}"
        )
