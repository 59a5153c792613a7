"""Numbers of bytes as people write and read them."""

from __future__ import annotations

from slcluster.errors import InputError

__all__ = ["format_bytes", "parse_bytes"]


def format_bytes(n_bytes: float) -> str:
    """Bytes for people, in powers of 1000.

    Examples
    --------
    >>> format_bytes(2_300_000)
    '2.3 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000 or unit == "GB":
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    raise AssertionError


def parse_bytes(size: str | int, name: str) -> int:
    """A number of bytes from an argument.

    Parameters
    ----------
    size : str or int
        Bytes, or text such as ``"512MB"`` or ``"2 GiB"``.
    name : str
        The argument, for the error.

    Raises
    ------
    InputError
        If it is neither, or not positive.

    Examples
    --------
    >>> parse_bytes("512MB", "memory_budget")
    512000000
    """
    import dask.utils

    try:
        has_number = not isinstance(size, bool) and any(map(str.isdigit, str(size)))
        text = size if isinstance(size, str) else int(size)
        n_bytes = dask.utils.parse_bytes(text) if has_number else 0  # "GB" alone would be one
    except (ValueError, AttributeError, TypeError, OverflowError):
        n_bytes = 0
    if n_bytes <= 0:
        raise InputError(f'{name} must be bytes, or a size such as "512MB" or "2GiB", got {size!r}')
    return int(n_bytes)
