"""Volumes of one NIfTI file, read in order and once."""

from __future__ import annotations

import os
from types import TracebackType

import numpy as np

from slcluster.errors import InputError
from slcluster.io.nifti import NiftiHeader, parse_header, read_header
from slcluster.io.reader import ByteReader

__all__ = ["VolumeReader", "read_volume"]


class VolumeReader:
    """The volumes of one file in order; a context manager. Values are raw: not scaled.

    Parameters
    ----------
    header : NiftiHeader
        From :func:`read_header`; the file is read again from its start.
    """

    def __init__(self, header: NiftiHeader) -> None:
        self._reader = ByteReader(header.path)
        self.header, n_read = parse_header(self._reader)
        if self.header.layout != header.layout:
            self._reader.close()
            raise InputError(f"{header.path} changed while it was being read; leave it alone and try again")
        self._done = 0
        self._scratch: np.ndarray | None = None
        self._reader.skip(self.header.offset - n_read)

    def __enter__(self) -> VolumeReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def read_into(self, volume: np.ndarray) -> None:
        """Read the next volume into a C-ordered array (nz, ny, nx) of the header's dtype.

        Raises
        ------
        InputError
            If the file ends before it, or is damaged.
        """
        got = self._reader.read_into(volume.reshape(-1).view(np.uint8).data)
        if got < self.header.volume_bytes:
            raise InputError(
                f"{self.header.path} is cut off: {self._done} of {self.header.shape[3]} volumes are whole; "
                "get a fresh copy"
            )
        self._done += 1

    def read_values(self, volume: np.ndarray, *, scaled: bool) -> None:
        """Read the next volume into an array of any float dtype, or of the header's own in native order.

        Parameters
        ----------
        volume : array, shape (nz, ny, nx)
            C order. What nibabel gives for its dtype is written into it.
        scaled : bool
            Apply the header's slope and intercept, in float64, before rounding to the dtype of ``volume``.
        """
        scaled = scaled and self.header.is_scaled
        if volume.dtype == self.header.dtype and not scaled:
            self.read_into(volume)
            return
        if self._scratch is None:
            self._scratch = np.empty(volume.shape, self.header.dtype)
        self.read_into(self._scratch)
        if scaled:
            volume[...] = self._scratch.astype(np.float64) * self.header.slope + self.header.inter
        else:
            volume[...] = self._scratch

    def finish(self) -> str:
        """Verify the end of the file and return its SHA-256; InputError where it does not hold."""
        return self._reader.finish(self.header.file_bytes)


def read_volume(path: str | os.PathLike[str]) -> tuple[np.ndarray, NiftiHeader]:
    """Read one 3D volume, scaled as its header says.

    Parameters
    ----------
    path : path
        A 3D file, or 4D with one volume.

    Returns
    -------
    values : numpy.ndarray
        Shape (nx, ny, nz); as stored, or float64 where the header scales.
    header : NiftiHeader

    Raises
    ------
    InputError
        As :func:`read_header`, and where there are several volumes or the file is damaged.
    """
    header = read_header(path)
    if header.shape[3] != 1:
        raise InputError(f"{path} has {header.shape[3]} volumes; expected one 3D volume")
    nx, ny, nz, _ = header.shape
    values = np.empty((nz, ny, nx), header.dtype)
    with VolumeReader(header) as reader:
        reader.read_into(values)
        reader.finish()
    values = values.T
    if header.is_scaled:
        return values.astype(np.float64) * header.slope + header.inter, header
    return values.astype(values.dtype.newbyteorder("=")), header
