"""Values as profiles say them, such as text with a unit, checked when they are read."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from dask.utils import parse_bytes, parse_timedelta
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

__all__ = ["Duration", "Environment", "Size", "Walltime", "walltime_s"]

#: [days-]hours:minutes:seconds, or days-hours. Two parts alone are minutes to Slurm and hours to LSF.
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d+):(\d+)|(\d+)-(\d+)")


def _size(text: str) -> str:
    try:
        n_bytes = parse_bytes(text)
    except (ValueError, OverflowError):
        n_bytes = 0
    # "8" would be eight bytes, and "GB" one of them.
    if n_bytes <= 0 or not re.match(r"[\d.]+ *[a-zA-Z]", text.strip()):
        raise ValueError(f'expected a size such as "2GB", got {text!r}')
    return text


def _duration(text: str) -> str:
    try:
        seconds = parse_timedelta(text)
    except (ValueError, KeyError, IndexError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f'expected a time such as "90s" or "2h", got {text!r}')
    return text


def walltime_s(text: str) -> int:
    """Seconds of a walltime.

    Parameters
    ----------
    text : str
        ``"[days-]hours:minutes:seconds"``, ``"days-hours"``, or a number with a unit such as ``"90m"``.

    Raises
    ------
    ValueError
        Anything else: the parts of ``"30"`` or ``"10:00"`` mean another thing to every batch system.

    Examples
    --------
    >>> walltime_s("1-02:00:00"), walltime_s("2-0"), walltime_s("90m")
    (93600, 172800, 5400)
    """
    clock = _CLOCK.fullmatch(text)
    if clock:
        days, hours, minutes, seconds, only_days, only_hours = (int(part or 0) for part in clock.groups())
        total = (24 * (days + only_days) + hours + only_hours) * 3600 + 60 * minutes + seconds
    elif re.fullmatch(r"[\d.]+ *[a-zA-Z]+", text):
        try:
            total = int(parse_timedelta(text))
        except (ValueError, KeyError, OverflowError):
            total = 0
    else:
        total = 0
    if total <= 0:
        raise ValueError(
            f'expected hours:minutes:seconds such as "01:30:00", days-hours, or "90m", got {text!r}'
        )
    return total


def _walltime(text: str) -> str:
    walltime_s(text)
    return text


def _variables(value: Any) -> Any:
    """Numbers need no quotes: a variable is text anyway."""
    if not isinstance(value, dict):
        return value
    odd = [name for name in value if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name))]
    if odd:
        raise ValueError(f"{odd[0]!r} is not the name of a variable")
    return {
        name: str(item) if isinstance(item, int | float) and not isinstance(item, bool) else item
        for name, item in value.items()
    }


Size = Annotated[str, AfterValidator(_size)]
Duration = Annotated[str, AfterValidator(_duration)]
Walltime = Annotated[str, AfterValidator(_walltime)]
Environment = Annotated[
    dict[str, str],
    BeforeValidator(_variables),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number"]}}),
]
