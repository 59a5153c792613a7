"""The digest that marks a store as finished and guards what chunk checksums cannot: its metadata.

``digest.json`` holds the SHA-256 over every ``zarr.json`` of the store (sorted relative path and bytes) and
the size of every other file. A flipped bit in ``zarr.json`` would open with other digits in an attribute, and
a lost chunk would read as zeros; both are found when the store is opened. The file is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from slcluster.errors import StoreError

__all__ = [
    "DIGEST_NAME",
    "METADATA",
    "check_digest",
    "check_files",
    "find_damages",
    "subject_digest",
    "write_digest",
]

DIGEST_NAME = "digest.json"
METADATA = "zarr.json"
_FIX = "restore it from a copy, or ingest again with overwrite=True"


def write_digest(path: str | os.PathLike[str]) -> str:
    """Write ``digest.json`` into a store that is otherwise complete, and return the digest.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    str
        SHA-256 of the metadata, 64 hexadecimal digits.
    """
    path = Path(path)
    sizes = {name: (path / name).stat().st_size for name in _files(path) if not _is_metadata(name)}
    digest = _metadata_sha256(path)
    with open(path / DIGEST_NAME, "wb") as file:
        file.write(_document(digest, sizes))
        file.flush()
        os.fsync(file.fileno())
    return digest


def check_digest(path: str | os.PathLike[str], *, fix: str = _FIX) -> str:
    """Hold a store against its ``digest.json`` and return the digest.

    Parameters
    ----------
    path : path
        Folder of the store. Chunks are not read: their own checksums are verified when they are.
    fix : str
        What to do about it, for messages.

    Returns
    -------
    str
        SHA-256 of the metadata, 64 hexadecimal digits.

    Raises
    ------
    StoreError
        If the digest is missing (the store was never finished), or metadata, the digest itself or the size of
        any file changed since.
    """
    damages = find_damages(path)
    if isinstance(damages, str):
        return damages
    raise StoreError(f"{damages[0]}; {fix}")


def find_damages(path: str | os.PathLike[str]) -> str | list[str]:
    """The digest of a store that is as it was written, else all that is not, in words."""
    path = Path(path)
    try:
        written = (path / DIGEST_NAME).read_bytes()
        sizes = _sizes(written)
    except FileNotFoundError:
        return [f"{path} has no {DIGEST_NAME}: writing it was cut off"]
    except OSError as error:
        return [f"cannot read {path / DIGEST_NAME}: {error.strerror or error}"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"{path / DIGEST_NAME} is damaged"]
    wrong = [_wrong_size(path, name, size) for name, size in sizes.items()]
    damages = [text for text in wrong if text is not None]
    digest = _metadata_sha256(path)
    if written != _document(digest, sizes):
        damages.append(f"metadata of {path} changed since it was written (its {DIGEST_NAME} no longer fits)")
    return damages or digest


def check_files(path: str | os.PathLike[str], prefix: str) -> None:
    """Make sure that the files whose names begin with ``prefix`` are there, as long as they were written.

    Raises
    ------
    StoreError
        One is not.
    """
    path = Path(path)
    about = os.stat(path / DIGEST_NAME)
    for name, size in _sizes_once(str(path), about.st_ino, about.st_mtime_ns).items():
        if name.startswith(prefix) and (wrong := _wrong_size(path, name, size)) is not None:
            raise StoreError(f"{wrong}; {_FIX}")


@lru_cache(maxsize=64)
def _sizes_once(path: str, inode: int, mtime_ns: int) -> dict[str, int]:
    return _sizes((Path(path) / DIGEST_NAME).read_bytes())


def _sizes(written: bytes) -> dict[str, int]:
    return {str(name): int(size) for name, size in json.loads(written)["files"].items()}


def subject_digest(path: str | os.PathLike[str]) -> str:
    """The digest of a finished subject store, checked against the store.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    str
        SHA-256 over every ``zarr.json``, 64 hexadecimal digits. The metadata name the SHA-256 of the sources,
        so that stores of other data have other digests.

    Raises
    ------
    StoreError
        As :func:`check_digest`.
    """
    return check_digest(path)


def _wrong_size(path: Path, name: str, size: int) -> str | None:
    """What is wrong with one file, in words."""
    try:
        found = (path / name).stat().st_size
    except (OSError, ValueError):
        return f"{path} lacks the file {name!r} that its {DIGEST_NAME} names"
    return None if found == size else f"{path / name} has {found} bytes where {size} were written"


def _document(digest: str, sizes: dict[str, int]) -> bytes:
    document = {"slcluster": "digest", "sha256": digest, "files": dict(sorted(sizes.items()))}
    return (json.dumps(document, indent=1) + "\n").encode()


def _metadata_sha256(path: Path) -> str:
    total = hashlib.sha256()
    # Of the group and its arrays, which are one level below. Not by a walk: a result has files for every block.
    files = (*path.glob(METADATA), *path.glob(f"*/{METADATA}"))
    for name in sorted(file.relative_to(path).as_posix() for file in files):
        content = (path / name).read_bytes()
        # Lengths keep the borders between names and contents unambiguous.
        total.update(f"{len(name.encode())}:{len(content)}:".encode() + name.encode() + content)
    return total.hexdigest()


def _is_metadata(name: str) -> bool:
    return name.rsplit("/", 1)[-1] == METADATA


def _files(path: Path) -> Iterator[str]:
    """Names of the store's files, relative, sorted; not the digest, not leftovers of interrupted writes."""
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return iter(sorted(name for name in names if name != DIGEST_NAME and not name.endswith(".partial")))
