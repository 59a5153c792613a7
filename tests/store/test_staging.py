"""A store appears when it is complete; whatever is cut off leaves no trace or is swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import slcluster as slc
from slcluster.errors import StoreError
from slcluster.store import open_store, write_array_store
from slcluster.store.staging import Staging, check_target
from tests.conftest import OBLIQUE


def _store(path: Path, value: float = 0.0, **options: bool) -> Path:
    bold = np.full((7, 9, 5, 4), value, "f4")
    return write_array_store(slc.subject_dataset(bold, affine=OBLIQUE), path, **options)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _interrupted(staging: Staging) -> None:
    with staging:
        (staging.folder / "content").touch()
        raise KeyboardInterrupt


def test_published_or_gone(tmp_path: Path) -> None:
    with Staging(tmp_path / "deep" / "s.zarr") as staging:
        (staging.folder / "content").touch()
        assert not staging.target.exists()
        staging.publish()
    assert _names(tmp_path / "deep") == ["s.zarr"]
    with pytest.raises(KeyboardInterrupt):
        _interrupted(Staging(tmp_path / "deep" / "t.zarr"))
    assert _names(tmp_path / "deep") == ["s.zarr"]


def test_what_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("more work")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "file"):
        for overwrite in (False, True):
            with pytest.raises(StoreError, match=f"{name} exists and is no slcluster store"):
                _store(tmp_path / name, overwrite=overwrite)
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "years of work"
    assert _names(tmp_path) == ["broken", "file", "folder"]


def test_ours_is_replaced_when_asked(tmp_path: Path) -> None:
    path = _store(tmp_path / "s.zarr", 1.0)
    with pytest.raises(StoreError, match=r"s.zarr exists; open it with open_store, or pass overwrite=True"):
        _store(path, 2.0)
    assert open_store(path)["bold"].values.max() == 1
    _store(path, 2.0, overwrite=True)
    assert open_store(path)["bold"].values.max() == 2
    assert _names(tmp_path) == ["s.zarr"]


def test_a_damaged_or_unfinished_store_is_still_ours(tmp_path: Path) -> None:
    for damage in ("digest.json", "zarr.json"):
        path = _store(tmp_path / "s.zarr", overwrite=True)
        (path / damage).unlink()
        with pytest.raises(StoreError, match="exists"):
            check_target(path, False)
        assert check_target(path, True) == path


def test_the_old_store_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = _store(tmp_path / "s.zarr", 1.0)
    with Staging(path, overwrite=True) as staging:
        (staging.folder / "half").touch()
        assert open_store(path)["bold"].values.max() == 1
    with pytest.raises(KeyboardInterrupt):
        _interrupted(Staging(path, overwrite=True))
    assert open_store(path)["bold"].values.max() == 1


def test_leftovers_are_swept_and_others_are_not(tmp_path: Path) -> None:
    kept = ["s.zarr.notes.partial", "s.zarr.0123456789.partial", "other.zarr.01234567.partial", "s.zarr.bak"]
    for name in [*kept, "s.zarr.01234567.partial", "s.zarr.89abcdef.replaced"]:
        (tmp_path / name).mkdir()
    _store(tmp_path / "s.zarr")
    (tmp_path / "s.zarr.89abcdef.replaced").mkdir()
    _store(tmp_path / "s.zarr", overwrite=True)
    assert _names(tmp_path) == sorted([*kept, "s.zarr"])


def test_a_store_moved_aside_by_a_writer_that_died_comes_back(tmp_path: Path) -> None:
    path = _store(tmp_path / "s.zarr", 3.0)
    path.rename(tmp_path / "s.zarr.01234567.replaced")
    with pytest.raises(StoreError, match="exists; open it"):
        _store(path)
    assert open_store(path)["bold"].values.max() == 3


_WRITER = """
    import sys, time
    from slcluster.store.staging import Staging
    with Staging(sys.argv[1]) as staging:
        (staging.folder / "zarr.json").touch()
        print("ready", flush=True)
        time.sleep(60)
"""


def _writer(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_WRITER), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_living_writer_is_respected_and_a_dead_one_swept(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    process = _writer(path)
    try:
        with pytest.raises(StoreError, match=r"another process or thread is writing .*s.zarr .*partial"):
            _store(path)
        assert len(_names(tmp_path)) == 1
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert _names(tmp_path)[0].endswith(".partial")
    with pytest.raises(StoreError, match="no store at"):
        open_store(path)
    _store(path)
    assert _names(tmp_path) == ["s.zarr"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write") as caught:
        _store(tmp_path / "file" / "s.zarr")
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="cannot write a store to"):
        _store(Path("nul\0.zarr"))
    with pytest.raises(StoreError, match="cannot write"):
        _store(tmp_path / ("x" * 300))
    with pytest.raises(StoreError, match="cannot write"):
        _store(Path("/proc/slcluster/s.zarr"))


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root writes into read-only folders; nobody does not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_folder(unprivileged: None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o500)
        for path in (Path(folder, "s.zarr"), Path(folder, "deep", "s.zarr")):
            with pytest.raises(
                StoreError, match=r"cannot write .*: Permission denied; make it writable for you, or choose"
            ):
                _store(path)
        assert _names(Path(folder)) == []
