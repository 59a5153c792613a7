"""The little of BIDS that ingest needs: the runs of one subject, their events, sidecars and masks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from slcluster.errors import InputError

__all__ = ["BidsRun", "brain_mask_beside", "entities", "find_runs", "repetition_time_s"]

_ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")
_BOLD = re.compile(r"_bold\.nii(\.gz)?$")


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
        If there are no runs, several subjects and none named, or several tasks or versions of a run.
    """
    found = sorted(path for path in folder.rglob("sub-*_bold.nii*") if _BOLD.search(path.name))
    found = [path for path in found if "derivatives" not in path.relative_to(folder).parts]
    subjects = sorted({entities(path)["sub"] for path in found if "sub" in entities(path)})
    if subject is not None and found:
        wanted = subject.removeprefix("sub-")
        if wanted not in subjects:
            raise InputError(f"{folder} has no subject {wanted!r}; it has {', '.join(subjects)}")
        found = [path for path in found if entities(path).get("sub") == wanted]
    elif len(subjects) > 1:
        raise InputError(f"{folder} has the subjects {', '.join(subjects)}; name one as subject=")
    if not found:
        raise InputError(
            f"{folder} holds no sub-*_bold.nii.gz; expected a BIDS data set or one subject of it"
        )
    kinds = {tuple(sorted((k, v) for k, v in entities(p).items() if k not in ("ses", "run"))) for p in found}
    if len(kinds) > 1:
        shown = "; ".join(" ".join(f"{k}-{v}" for k, v in kind) for kind in sorted(kinds))
        raise InputError(f"{folder} holds several kinds of runs ({shown}); pass the list of files you mean")
    found.sort(key=lambda p: (entities(p).get("ses", ""), int(entities(p).get("run", "0")), p.name))
    return [BidsRun(path, _events_of(path)) for path in found]


def _events_of(bold: Path) -> Path | None:
    events = bold.with_name(_BOLD.sub("_events.tsv", bold.name))
    return events if events.is_file() else None


def repetition_time_s(bold: Path) -> float | None:
    """``RepetitionTime`` of the nearest JSON sidecar that applies, by BIDS inheritance; None without one."""
    own = entities(bold)
    for folder in bold.resolve().parents[:4]:
        best: tuple[int, Path] | None = None
        for sidecar in folder.glob("*bold.json"):
            theirs = entities(sidecar)
            if theirs.items() <= own.items() and (best is None or len(theirs) > best[0]):
                best = (len(theirs), sidecar)
        if best is not None:
            tr = _read_tr(best[1])
            if tr is not None:
                return tr
        if (folder / "dataset_description.json").is_file():
            break
    return None


def _read_tr(sidecar: Path) -> float | None:
    try:
        value = json.loads(sidecar.read_text(encoding="utf-8")).get("RepetitionTime")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"cannot read {sidecar}: {error}") from None
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 < value < 1000:
        raise InputError(f"{sidecar}: RepetitionTime is {value!r}, expected seconds")
    return float(value)


def brain_mask_beside(bold: Path) -> Path | None:
    """fMRIPrep's ``*_desc-brain_mask.nii.gz`` of the same run and space beside a preprocessed image."""
    own = {k: v for k, v in entities(bold).items() if k != "desc"}
    for candidate in sorted(bold.parent.glob("*_desc-brain_mask.nii*")):
        if {k: v for k, v in entities(candidate).items() if k != "desc"} == own:
            return candidate
    return None
