"""The little of BIDS that ingest needs: the runs of one subject, their events, sidecars and masks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from slcluster.errors import InputError

__all__ = ["BidsRun", "brain_mask_beside", "entities", "find_runs", "repetition_time_s"]

_ENTITY = re.compile(r"(?:^|_)([a-zA-Z]+)-([a-zA-Z0-9+]+)(?=_|\.)")
_BOLD = re.compile(r"_bold\.nii(\.gz)?$")
#: Where images lie below a data set, a subject, a session, or beside each other.
_PLACES = ("sub-*/func", "sub-*/ses-*/func", "func", "ses-*/func", ".")


@dataclass(frozen=True)
class BidsRun:
    """One run: its image and, where it is there, the table of its events."""

    bold: Path
    events: Path | None


def entities(path: Path) -> dict[str, str]:
    """Entities of a BIDS file name: ``sub-01_run-02_bold.nii.gz`` gives sub and run."""
    return dict(_ENTITY.findall(path.name))


def find_runs(folder: Path, subject: str | None = None) -> list[BidsRun]:
    """The runs of one subject, in order of session and run.

    Parameters
    ----------
    folder : Path
        A BIDS data set, or one subject's folder in it.
    subject : str, optional
        Which subject, with or without ``sub-``, where the folder holds several.

    Returns
    -------
    list of BidsRun

    Raises
    ------
    InputError
        If there are no runs, several subjects and none named, several tasks, or several files of a run.
    """
    places = [file for place in _PLACES for file in folder.glob(f"{place}/sub-*_bold.nii*")]
    found = sorted({file for file in places if _BOLD.search(file.name)})
    if not found:
        raise InputError(
            f"{folder} holds no sub-*_bold.nii.gz; expected a BIDS data set or one subject of it"
        )
    found = _of_subject(folder, found, subject)
    kinds = {tuple(sorted((k, v) for k, v in entities(p).items() if k not in ("ses", "run"))) for p in found}
    if len(kinds) > 1:
        shown = "; ".join(" ".join(f"{k}-{v}" for k, v in kind) for kind in sorted(kinds))
        raise InputError(f"{folder} holds several kinds of runs ({shown}); pass the list of files you mean")
    found.sort(key=_order)
    for one, other in pairwise(found):
        if entities(one) == entities(other):
            raise InputError(
                f"{one.name} and {other.name} are one run of {folder}; pass the list of files you mean"
            )
    return [BidsRun(path, _events_of(path)) for path in found]


def _of_subject(folder: Path, found: list[Path], subject: str | None) -> list[Path]:
    subjects = sorted({entities(path).get("sub", "") for path in found})
    wanted = subjects[0] if subject is None else subject.removeprefix("sub-")
    if subject is None and len(subjects) > 1:
        raise InputError(f"{folder} has the subjects {', '.join(subjects)}; name one as subject=")
    if wanted not in subjects:
        raise InputError(f"{folder} has no subject {wanted!r}; it has {', '.join(subjects)}")
    return [path for path in found if entities(path).get("sub", "") == wanted]


def _order(path: Path) -> tuple[str, int, str]:
    """Session, then run by number: run-10 comes after run-2."""
    own = entities(path)
    run = own.get("run", "0")
    return own.get("ses", ""), int(run) if run.isdigit() else 0, path.name


def _events_of(bold: Path) -> Path | None:
    events = bold.with_name(_BOLD.sub("_events.tsv", bold.name))
    return events if events.is_file() else None


def repetition_time_s(bold: Path) -> float | None:
    """Repetition time from the nearest JSON sidecar that applies.

    Parameters
    ----------
    bold : Path
        An image. Its own ``.json`` comes first; then, for a BIDS name, those that BIDS inheritance gives it.

    Returns
    -------
    float or None
        Seconds; None where no sidecar has a ``RepetitionTime``.

    Raises
    ------
    InputError
        If a sidecar cannot be read, or its value is no time.
    """
    own_sidecar = bold.with_name(re.sub(r"\.nii(\.gz)?$", ".json", bold.name))
    candidates = [own_sidecar] if own_sidecar.is_file() and own_sidecar != bold else []
    if "sub" in entities(bold):
        candidates += _inherited(bold)
    for sidecar in candidates:
        tr_s = _read_tr_s(sidecar)
        if tr_s is not None:
            return tr_s
    return None


def _inherited(bold: Path) -> list[Path]:
    """Sidecars whose entities the image has, nearest folder first, the most specific first in each."""
    own = entities(bold).items()
    found: list[Path] = []
    for folder in bold.resolve().parents[:4]:
        fits = [file for file in folder.glob("*bold.json") if entities(file).items() <= own]
        found += sorted(fits, key=lambda file: -len(entities(file)))
        if (folder / "dataset_description.json").is_file():
            break
    return found


def _read_tr_s(sidecar: Path) -> float | None:
    try:
        value = json.loads(sidecar.read_text(encoding="utf-8")).get("RepetitionTime")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"cannot read {sidecar}: {error}; expected a JSON object") from None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1000:
        raise InputError(f"{sidecar}: RepetitionTime is {value!r}, expected seconds")
    return float(value)


def brain_mask_beside(bold: Path) -> Path | None:
    """fMRIPrep's ``*_desc-brain_mask.nii.gz`` of the same run and space, beside a preprocessed image."""
    prefix = re.sub(r"(_desc-[a-zA-Z0-9+]+)?_bold\.nii(\.gz)?$", "", bold.name)
    for ending in (".nii.gz", ".nii"):
        candidate = bold.with_name(f"{prefix}_desc-brain_mask{ending}")
        if candidate.is_file():
            return candidate
    return None
