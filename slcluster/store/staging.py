"""A folder that is written beside its target and takes its place when complete."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from slcluster.errors import InputError, StoreError, StorePathError, cannot_write, one_line
from slcluster.store.metadata import is_ours

__all__ = ["Staging", "check_target", "is_staging", "refuse_inside_store", "sweep_abandoned"]

#: How the name of a folder ends that is not, or no longer, in its target's place.
_TOKEN = r"\.[0-9a-f]{8}\.(partial|replaced)"

#: How often a folder is removed before it is left to the next writer's sweep.
_LOOKS = 20


def as_path(path: Any, what: str) -> Path:
    """An absolute path; InputError where it is none."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"expected the path of {what}, got {path!r}")
    return Path(path).expanduser().resolve()


def refuse_inside_store(path: Path) -> None:
    """Refuse a place inside a Zarr store, whose contents are its own.

    Raises
    ------
    StorePathError
        Names the store.
    """
    for folder in path.parents:
        if (folder / "zarr.json").exists():
            raise StorePathError(f"{path} lies inside the store {folder}; choose a place outside of it")


def check_target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Refuse a target that holds something not to be replaced, before any work is done.

    Parameters
    ----------
    path : path
        Where a store shall be.
    overwrite : bool
        Whether a store of ours may be replaced.

    Returns
    -------
    Path
        The target, absolute.

    Raises
    ------
    StoreError
        If something is there that must stay, or the place cannot be looked at.
    """
    try:
        target = Path(path).expanduser().resolve()
        refuse_inside_store(target)
        if not os.path.lexists(target):
            return target
        is_store = target.is_dir() and is_ours(target)
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreError(f"cannot write a store to {os.fspath(path)!r}: {one_line(error)}") from None
    if not is_store:
        raise StorePathError(
            f"{target} exists and is no slcluster store; choose another path (it is left alone)"
        )
    if not overwrite:
        raise StorePathError(
            f"{target} exists; open it with open_store, or pass overwrite=True to replace it"
        )
    return target


class Staging:
    """Context manager around a new folder ``<target>.<token>.partial``; gone afterwards, whatever happened.

    The token keeps two writers apart even where locks do not work, and the folder is locked while its writer
    lives, so that only what a dead one left is swept. On NFS the locks of folders are of one host alone: do not
    write one store from two hosts at a time.

    Parameters
    ----------
    target : path
        Where :meth:`publish` moves the folder.
    overwrite : bool
        Whether a store of ours may be replaced there.
    """

    def __init__(self, target: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.target = check_target(target, overwrite)
        self.folder = self.target.with_name(f"{self.target.name}.{uuid.uuid4().hex[:8]}.partial")
        self._overwrite = overwrite
        self._lock: int | None = None

    def __enter__(self) -> Staging:
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            _sweep(self.target)
            check_target(self.target, self._overwrite)
            self.folder.mkdir()
            self._lock = os.open(self.folder, os.O_RDONLY)
            _try_lock(self._lock)
        except OSError as error:
            self._leave()
            raise self._unwritable(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        if isinstance(error, OSError):
            raise self._unwritable(error) from error

    def publish(self) -> None:
        """Move the folder into the target's place. An older store stays until the new one is there."""
        check_target(self.target, self._overwrite)
        if not self.target.exists():
            self.folder.rename(self.target)
        else:
            aside = self.target.with_name(f"{self.folder.name.removesuffix('.partial')}.replaced")
            self.target.rename(aside)
            self.folder.rename(self.target)
            shutil.rmtree(aside, ignore_errors=True)
        _sync_folder(self.target.parent)

    def _leave(self) -> None:
        for _ in range(_LOOKS):  # a thread that still writes puts new files into it
            shutil.rmtree(self.folder, ignore_errors=True)
            if not os.path.lexists(self.folder):
                break
            time.sleep(0.1)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _unwritable(self, error: OSError) -> StoreError:
        return cannot_write(self.target, error, after=" (nothing was left behind)")


def is_staging(folder: Path) -> bool:
    """Whether a folder is, by its name, a store that is being written, or one that is being replaced."""
    return re.search(rf"{_TOKEN}$", folder.name) is not None


def _sweep(target: Path) -> None:
    """Remove what dead writers of this target left; put back a store that one had just moved aside."""
    left = re.compile(re.escape(target.name) + _TOKEN)
    for folder in sorted(target.parent.iterdir()):
        match = left.fullmatch(folder.name)
        if match is None or folder.is_symlink() or not folder.is_dir():
            continue
        if match[1] == "replaced" and not target.exists() and is_ours(folder):
            folder.rename(target)
        elif _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            raise StoreError(
                f"another process or thread is writing {target} (into {folder.name}); wait for it or stop it"
            )


def sweep_abandoned(target: Path) -> None:
    """Remove what dead writers of this target left beside it; a living one's is left alone."""
    for folder in target.parent.glob(f"{target.name}.????????.partial"):
        if folder.is_dir() and not folder.is_symlink() and _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return True
    try:
        return _try_lock(handle)
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    """Lock an open folder; False where a living process holds it. The lock ends with its process."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # No locks on this file system: tokens keep the writers apart.
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
