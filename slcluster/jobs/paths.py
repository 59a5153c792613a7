"""Names and paths that come from a file or a store: none leads out of the folder that it is meant for."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from slcluster.errors import InputError

__all__ = ["below", "refuse_outside", "usable_path", "usable_subject"]

#: As a file's name, with an ending to come: file systems take 255 bytes.
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def usable_subject(name: str) -> str:
    """The name of a subject, where it can name a file.

    Raises
    ------
    InputError

    Examples
    --------
    >>> usable_subject("sub-01")
    'sub-01'
    """
    if not _SUBJECT.fullmatch(name):
        shown = name if len(name) <= 40 else f"{name[:40]}..."
        raise InputError(
            f"subject {shown!r} cannot name a file: expected at most 200 letters, digits, '.', '_' and '-', the "
            "first a letter or digit; ingest it with another --subject"
        )
    return name


def usable_path(path: Path) -> Path:
    """A path that a file system could have.

    Raises
    ------
    InputError
    """
    # A line break in a path would be a line of its own in a job script.
    if any(unicodedata.category(sign) == "Cc" for sign in str(path)):
        raise InputError(f"{str(path)!r} is not a usable path: it holds a control character; choose another")
    for part in path.parts:
        if len(part.encode(errors="surrogateescape")) > 255:
            raise InputError(f"{part[:40]}... is not the name of a file: it is longer than 255 bytes")
    return path


def below(folder: Path, name: str) -> Path:
    """What is called so in a folder, unless it is a link that leads out of it.

    Raises
    ------
    InputError
    """
    path = folder / name
    refuse_outside(path, folder)
    return path


def refuse_outside(
    path: Path, folder: Path, *, fix: str = "remove the link, or choose another folder"
) -> None:
    """Refuse a path that leads out of a folder, by ``..``, by a link or because it lies elsewhere.

    Raises
    ------
    InputError
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path} leads out of {folder}, to {path.resolve()}; {fix}")
