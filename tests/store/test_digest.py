"""Every byte of a store's metadata, and the size of everything else, is guarded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import slcluster as slc
from slcluster.errors import StoreError
from slcluster.store import open_store, subject_digest, write_array_store
from slcluster.store.digest import DIGEST_NAME, check_digest, write_digest
from tests.conftest import OBLIQUE


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bold = np.random.default_rng(0).normal(size=(7, 9, 5, 12)).astype("f4")
    ds = slc.subject_dataset(bold, affine=OBLIQUE, condition=["a", "b"] * 6)
    return write_array_store(ds, tmp_path_factory.mktemp("digest") / "s.zarr")


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "s.zarr"))


def _guarded(store: Path) -> list[str]:
    names = [path.relative_to(store).as_posix() for path in store.rglob("zarr.json")]
    return sorted([*names, DIGEST_NAME])


def test_all_arrays_are_guarded(store: Path) -> None:
    assert len(_guarded(store)) == 2 + len(["bold", "mask", "mean", "nonfinite", "affine", *"xyz"]) + 3


def test_any_flipped_byte_of_metadata_is_found(store: Path, copy: Path) -> None:
    rng = np.random.default_rng(3)
    for name in _guarded(store):
        content = (store / name).read_bytes()
        places = np.unique([0, len(content) - 1, *rng.integers(len(content), size=30)])
        for at in places:
            changed = bytearray(content)
            changed[at] ^= 1 << int(rng.integers(8))
            (copy / name).write_bytes(changed)
            with pytest.raises(StoreError):
                open_store(copy)
        (copy / name).write_bytes(content)
    assert open_store(copy).identical(open_store(store))


@pytest.mark.parametrize("name", ["bold/c/0/0/0/0", "mask/c/0/0/0", "condition/c/0", "mean/zarr.json"])
def test_a_lost_file_is_found(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(StoreError, match=r"lacks the file|metadata of .* changed"):
        open_store(copy)


def test_a_shortened_file_is_found(copy: Path) -> None:
    shard = copy / "bold" / "c" / "0" / "0" / "0" / "0"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=rf"has {len(content) - 1} bytes where {len(content)} were written"):
        open_store(copy)


def test_flipped_bits_of_voxels_are_found_on_reading(store: Path, copy: Path) -> None:
    shard = copy / "bold" / "c" / "0" / "0" / "0" / "0"
    content = shard.read_bytes()
    rng = np.random.default_rng(4)
    clean = open_store(store)["bold"].values
    for at in rng.integers(len(content), size=60):
        changed = bytearray(content)
        changed[at] ^= 1 << int(rng.integers(8))
        shard.write_bytes(changed)
        with pytest.raises(StoreError):
            slc.store.read_window(copy, (slice(None),) * 3)
    shard.write_bytes(content)
    np.testing.assert_array_equal(slc.store.read_window(copy, (slice(None),) * 3), clean)


def test_unfinished(copy: Path) -> None:
    (copy / DIGEST_NAME).unlink()
    with pytest.raises(StoreError, match=r"has no digest.json: writing it was cut off; .*overwrite=True"):
        open_store(copy)
    with pytest.raises(StoreError, match="cut off; run it again"):
        check_digest(copy, fix="run it again")


def test_the_digest_is_of_metadata_alone(store: Path, copy: Path) -> None:
    assert subject_digest(store) == subject_digest(copy) == write_digest(copy)
    assert len(subject_digest(store)) == 64


def test_another_array_in_the_folder_is_a_change(copy: Path) -> None:
    (copy / "extra").mkdir()
    (copy / "extra" / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match=r"metadata of .* changed since it was written"):
        open_store(copy)


def test_files_of_others_beside_it_do_not_matter(store: Path, copy: Path) -> None:
    (copy / ".DS_Store").write_bytes(b"finder")
    (copy / "notes.txt").write_text("looks good")
    assert subject_digest(copy) == subject_digest(store)


def test_metadata_are_found_without_a_walk(store: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result has files for every block; on a network file system each look would cost a request."""

    def walk(*_: object) -> None:
        raise AssertionError("every file was looked at")

    digest = subject_digest(store)
    monkeypatch.setattr(Path, "rglob", walk)
    assert check_digest(copy) == digest
