"""A store looked at from end to end: is every byte as it was written, and what is to be done where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slcluster.durable import resume
from slcluster.errors import StorePathError
from slcluster.progress import Listener, Progress, Step, listener
from slcluster.schema import RESULT, SUBJECT
from slcluster.store.checking import (
    ChunkCheck,
    check_chunks,
    check_metadata,
    find_partial,
    n_chunk_files,
    samples_of_shard,
)
from slcluster.store.lease import Lease, is_dead, read_lease
from slcluster.store.metadata import is_ours, root_attrs
from slcluster.store.result import (
    BLOCK_ARRAYS,
    BlockReader,
    block_files,
    forget_damaged,
    is_result_finished,
    sweep_result,
)
from slcluster.store.staging import sweep_abandoned

__all__ = ["StoreCheck", "fsck"]

#: Damages that a report spells out.
_TOLD = 20


@dataclass(frozen=True)
class StoreCheck:
    """What :func:`fsck` found. Printable.

    Attributes
    ----------
    path, kind : str
        The kind is ``"subject"`` or ``"result"``.
    n_files, n_bytes : int
        Chunk files read, and their bytes.
    damages : tuple of str
        What is not as it was written, one line each.
    blocks : tuple of int
        Of a result: blocks to compute again.
    is_finished : bool
        Whether all of it was there once.
    partial : tuple of str
        What interrupted writers left. Harmless.
    holder : str or None
        The driver that computes a result now.
    remedy : str
        What to do about the damages.
    """

    path: str
    kind: str
    n_files: int
    n_bytes: int
    damages: tuple[str, ...]
    blocks: tuple[int, ...]
    is_finished: bool
    partial: tuple[str, ...]
    holder: str | None
    remedy: str

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged or lost."""
        return not self.damages

    def __str__(self) -> str:
        state = "sound" if self.is_sound else "DAMAGED"
        lines = [
            f"{self.path}: {self.kind} store, {self.n_files} chunks, {self.n_bytes / 1e6:.1f} MB: {state}"
        ]
        lines += [f"  {damage}" for damage in self.damages[:_TOLD]]
        if len(self.damages) > _TOLD:
            lines.append(f"  and {len(self.damages) - _TOLD} more")
        if self.holder is not None:
            lines.append(f"  computed by {self.holder} now")
        if self.partial:
            lines.append(
                f"  {len(self.partial)} left by interrupted writers, harmless: {', '.join(self.partial[:3])}"
                f"{' ...' if len(self.partial) > 3 else ''}"
            )
        if self.remedy:
            lines.append(f"  {self.remedy}")
        return "\n".join(lines)


def fsck(
    path: str | Path, *, repair: bool = False, client: Any = None, progress: Progress = None
) -> StoreCheck:
    """Check every chunk of a subject or result store, its metadata, sizes and leftovers.

    Parameters
    ----------
    path : path
    repair : bool
        Of a finished result: compute damaged blocks again, as :func:`slcluster.searchlight.resume` does. Of an
        unfinished one: remove them; they are computed when it goes on. Of all: remove what interrupted writers
        left. A subject store cannot be repaired: it says what to ingest again.
    client : distributed.Client, optional
        Cluster to repair on.
    progress : None, True or callable

    Returns
    -------
    StoreCheck
        After the repair, where one was made.

    Raises
    ------
    StorePathError
        No store of ours is there.
    StoreError
        A repair failed, or another driver holds the result.
    InputError
        The estimator is your own: call :func:`slcluster.searchlight` again with the same arguments instead.

    Examples
    --------
    >>> import tempfile, slcluster
    >>> ds = slcluster.simulate(shape=(7, 8, 9), n_runs=4, seed=0)
    >>> path = slcluster.store.write_array_store(ds, tempfile.mkdtemp() + "/sub-01.zarr")
    >>> fsck(path).is_sound
    True
    """
    path, tell = Path(path).expanduser().resolve(), listener(progress)
    check = _check(path, tell)
    if not repair or (check.is_sound and not check.partial):
        return check
    if check.kind == RESULT.kind:
        with Lease(path):
            sweep_result(path)
            if not check.is_finished:
                forget_damaged(path, check.blocks)
        if check.blocks and check.is_finished:
            resume(path, client=client, progress=progress)
    sweep_abandoned(path)
    return _check(path, tell)


def _check(path: Path, tell: Listener) -> StoreCheck:
    if not path.is_dir() or not is_ours(path):
        raise StorePathError(f"{path} is not a slcluster store; expected a subject store or a result")
    attrs, held, partial = root_attrs(path), read_lease(path), tuple(find_partial(path))
    damages, checks = check_metadata(path), _chunks(path, tell)
    # Where the metadata are damaged the kind is told by what results alone have.
    is_result = attrs.get("slcluster") == RESULT.kind or (path / "center_ijk").is_dir()
    is_finished = not is_result or is_result_finished(path)
    blocks: tuple[int, ...] = ()
    if is_result:
        of_blocks, others = {}, list(damages)
        if not damages:
            of_blocks = _block_damages(path, checks)
        others += [f"{one.file}: {one.damage}" for one in checks if one.damage and not _is_of_block(one.file)]
        blocks = tuple(of_blocks)
        damages = [*others, *of_blocks.values()]
        remedy = _result_remedy(path, bool(others), len(blocks), is_finished)
    else:
        damages += [_subject_damage(path, one) for one in checks if one.damage]
        remedy = _subject_remedy(path, attrs) if damages else ""
    return StoreCheck(
        path=str(path),
        kind=RESULT.kind if is_result else SUBJECT.kind,
        n_files=len(checks),
        n_bytes=sum(one.n_bytes for one in checks),
        damages=tuple(damages),
        blocks=blocks,
        is_finished=is_finished,
        partial=partial,
        holder=None if not held or is_dead(held) else f"process {held['pid']} on {held['host']}",
        remedy=remedy,
    )


def _chunks(path: Path, tell: Listener) -> list[ChunkCheck]:
    checks: list[ChunkCheck] = []
    total, every = n_chunk_files(path), 100
    tell(Step(f"fsck {path.name}", 0, total, "chunk"))
    for check in check_chunks(path):
        checks.append(check)
        if len(checks) % every == 0:
            tell(Step(f"fsck {path.name}", len(checks), total, "chunk"))
    tell(Step(f"fsck {path.name}", total, total, "chunk"))
    return checks


def _is_of_block(file: str) -> bool:
    return file.split("/", 1)[0] in BLOCK_ARRAYS


def _block_damages(path: Path, checks: list[ChunkCheck]) -> dict[int, str]:
    """Blocks to compute again, and why. Before a result is finished a block that is not there is none of them."""
    seen = {one.file: one.damage for one in checks}
    reader, is_finished, found = BlockReader(path), is_result_finished(path), {}
    for number, files in enumerate(block_files(path)):
        bad = [f"{file}: {seen[file]}" for file in files if seen.get(file)]
        lost = [f"{file} is lost" for file in files if file not in seen]
        if not bad and not lost and reader.read(number) is None:
            bad = ["a chunk of another array is in its place"]
        if bad or (lost and is_finished):
            found[number] = f"block {number}: {'; '.join(bad + lost)}"
    return found


def _result_remedy(path: Path, is_lost: bool, n_blocks: int, is_finished: bool) -> str:
    if is_lost:
        return "its plan is damaged: restore it from a copy, or compute it again under another name"
    if not n_blocks:
        return ""
    blocks = "1 block" if n_blocks == 1 else f"{n_blocks} blocks"
    if is_finished:
        return f"to compute {blocks} again: slcluster fsck --repair {path}"
    return f"{blocks} will be computed again when it goes on: slcluster resume {path}"


def _subject_damage(path: Path, check: ChunkCheck) -> str:
    text = f"{check.file}: {check.damage}"
    if check.file.startswith("bold/c/"):
        first, last = samples_of_shard(path, check.file)
        text += f" (samples {first} to {last - 1})"
    return text


def _subject_remedy(path: Path, attrs: dict[str, Any]) -> str:
    names, digests = attrs.get("sources"), attrs.get("sources_sha256")
    if not names or not digests or len(names) != len(digests):
        return "restore it from a copy, or write it again (overwrite=True)"
    sources = ", ".join(
        f"{name} (SHA-256 {digest[:12]}...)" for name, digest in zip(names, digests, strict=True)
    )
    return f"restore it from a copy, or ingest again with --overwrite, from: {sources}"
