"""Progress events, and the listeners that show them.

Long work takes ``progress``: ``None`` (silent), ``True`` (whatever suits where it is running) or any
callable that accepts a :class:`Step`. Libraries that draw are imported when the first event arrives.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slcluster.errors import InputError

__all__ = ["Listener", "Progress", "Step", "listener"]


@dataclass(frozen=True)
class Step:
    """One progress event.

    Attributes
    ----------
    stage : str
        What is being done, for people: ``"ingest"``, ``"searchlight"``.
    done, total : int
        Units finished and units in all. ``done == total`` is the last event of a stage.
    unit : str
        What is counted: ``"sample"``, ``"block"``.
    note : str
        Anything worth showing beside the numbers.
    """

    stage: str
    done: int
    total: int
    unit: str
    note: str = ""


Listener = Callable[[Step], None]
Progress = Listener | bool | None


def listener(progress: Progress) -> Listener:
    """Turn a ``progress`` argument into a callable.

    Parameters
    ----------
    progress : None, bool or callable
        ``None`` and ``False`` are silent. ``True`` chooses a bar in a terminal, a widget in a notebook and plain lines
        when standard error is not a terminal.

    Returns
    -------
    callable
        Takes one :class:`Step`.

    Raises
    ------
    InputError
        If it is none of these.

    Examples
    --------
    >>> seen = []
    >>> tell = listener(seen.append)
    >>> tell(Step("ingest", 1, 2, "sample"))
    >>> seen[0].done
    1
    """
    if progress is None or progress is False:
        return lambda step: None
    if progress is True:
        return _Bar() if _has_screen() else _Lines()
    if not callable(progress):
        raise InputError(
            f"progress must be None, True or a function of one slcluster.progress.Step, got {progress!r}"
        )
    return progress


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def _has_screen() -> bool:
    return _in_notebook() or sys.stderr.isatty()


class _Bar:
    """One line in a terminal, a widget in a notebook: rate and time left by tqdm."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""

    def __call__(self, step: Step) -> None:
        if self._bar is None or step.stage != self._stage:
            self._open(step)
        self._bar.n = step.done
        if step.note:
            self._bar.set_postfix_str(step.note, refresh=False)
        self._bar.refresh()
        if step.done >= step.total:
            self._bar.close()
            self._bar = None

    def _open(self, step: Step) -> None:
        if self._bar is not None:
            self._bar.close()
        from tqdm.auto import tqdm

        self._stage = step.stage
        # What an earlier process finished must not count towards this one's rate.
        self._bar = tqdm(
            total=step.total,
            initial=step.done,
            desc=step.stage,
            unit=f" {step.unit}",
            dynamic_ncols=True,
            file=sys.stderr,
        )


class _Lines:
    """Plain lines for logs and pipes: at the start, at the end, and at most one every few seconds."""

    def __init__(self, every_s: float = 5.0) -> None:
        self._every_s = every_s
        self._stage = ""
        self._begun = self._told = 0.0
        self._first = 0

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        is_new = step.stage != self._stage
        if is_new:
            self._stage, self._begun, self._first = step.stage, now, step.done
        elif now - self._told < self._every_s and step.done < step.total:
            return
        self._told = now
        print(self._line(step, now - self._begun), file=sys.stderr, flush=True)

    def _line(self, step: Step, elapsed_s: float) -> str:
        text = f"{step.stage}: {step.done}/{step.total} {step.unit}s"
        fresh = step.done - self._first
        if fresh > 0 and elapsed_s > 0:
            rate = fresh / elapsed_s
            text += f", {rate:.3g} {step.unit}s/s"
            if step.done < step.total:
                text += f", {(step.total - step.done) / rate:.0f} s left"
        return f"{text}, {step.note}" if step.note else text
