"""Reading the bytes of one NIfTI file once, from its first to its last, and nothing beyond.

A ``.nii.gz`` carries its checksum at the very end; a reader that stops at the last voxel never sees it and
lets most flipped bits pass. :class:`ByteReader` reads to the end of the stream, hashes the file as it is on
disk on the way, and refuses bytes that the header does not account for.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from isal import igzip, isal_zlib

from slcluster.errors import InputError

__all__ = ["MAX_INFLATION", "ByteReader", "is_gzip"]

_BUFFER_BYTES = 512 * 1024
#: Inflates to 4 MB at most.
_TAIL_BYTES = 4096
_GZIP_MAGIC = b"\x1f\x8b"

#: Deflate cannot expand by more than this; a header that claims more is a lie, found before allocating.
MAX_INFLATION = 1032

#: What inflating a damaged stream may raise.
_DAMAGE: tuple[type[Exception], ...] = (
    EOFError,
    zlib.error,
    cast(type[Exception], isal_zlib.error),
    igzip.BadGzipFile,
)


def is_gzip(path: Path) -> bool:
    """Whether the file begins as gzip does, whatever its name says."""
    with open(path, "rb") as file:
        return file.read(2) == _GZIP_MAGIC


def _has_tail(path: Path) -> bool:
    """Whether other bytes follow whole gzip streams, which the fast decoder takes for a stream cut off."""
    stream = zlib.decompressobj(wbits=31)
    try:
        with open(path, "rb") as file:
            rest = file.read(_TAIL_BYTES)
            while rest:
                stream.decompress(rest)
                rest = stream.unused_data + file.read(_TAIL_BYTES)
                if not stream.eof:
                    continue
                if not rest.startswith(_GZIP_MAGIC):
                    return bool(rest)
                stream = zlib.decompressobj(wbits=31)
    except (OSError, zlib.error):
        pass
    return False


class _Hashing(io.RawIOBase):
    """Passes a file on and hashes what passes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n_bytes = cast(Any, self._file).readinto(buffer)
        self.sha256.update(memoryview(buffer)[:n_bytes])
        return int(n_bytes)


class ByteReader:
    """One pass over a plain or gzipped file; a context manager.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        Missing, unreadable or empty file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file_bytes = path.stat().st_size
            if path.is_dir():
                raise InputError(f"expected a NIfTI file, got the folder {path}")
            if self.file_bytes == 0:
                raise InputError(f"{path} is empty")
            self.is_gzip = is_gzip(path)
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        except FileNotFoundError:
            raise InputError(f"no such file: {path}") from None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None
        self._hashing = _Hashing(self._file)
        self._stream: Any = (
            igzip._GzipReader(cast(BinaryIO, self._hashing), _BUFFER_BYTES)
            if self.is_gzip
            else io.BufferedReader(self._hashing, _BUFFER_BYTES)
        )

    def __enter__(self) -> ByteReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; harmless when closed."""
        self._file.close()

    def read_into(self, buffer: memoryview) -> int:
        """Fill ``buffer``; fewer bytes only at the end of the file. InputError where it is damaged."""
        filled = 0
        while filled < len(buffer):
            n_bytes = self._readinto(buffer[filled:])
            if n_bytes == 0:
                break
            filled += n_bytes
        return filled

    def _readinto(self, buffer: memoryview) -> int:
        try:
            return int(self._stream.readinto(buffer))
        except _DAMAGE as error:
            if isinstance(error, EOFError) and _has_tail(self.path):
                raise InputError(
                    f"{self.path} is damaged: bytes that are no gzip follow its end; get a fresh copy"
                ) from None
            raise InputError(f"{self.path} is damaged or cut off: {error}; get a fresh copy") from None
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from None

    def finish(self, expected_bytes: int) -> str:
        """Read the end of the stream, so that its checksum is verified, and return the file's SHA-256.

        Raises
        ------
        InputError
            If anything follows, or the checksum does not hold.
        """
        if self._readinto(memoryview(bytearray(1))):
            raise InputError(
                f"{self.path} holds more than the {expected_bytes} bytes its header tells of; get a fresh copy"
            )
        return self._hashing.sha256.hexdigest()

    def skip(self, n_bytes: int) -> int:
        """Read and drop ``n_bytes``; fewer only at the end of the file."""
        scratch = memoryview(bytearray(min(n_bytes, _BUFFER_BYTES)))
        left = n_bytes
        while left:
            got = self.read_into(scratch[: min(left, len(scratch))])
            if got == 0:
                break
            left -= got
        return n_bytes - left
