"""Bytes of a file: read to the end, hashed, nothing beyond what its header tells of."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from slcluster.errors import InputError
from slcluster.io.reader import ByteReader

CONTENT = np.random.default_rng(0).bytes(70_001)


def _read(path: Path, n_bytes: int = len(CONTENT)) -> tuple[bytes, str]:
    buffer = bytearray(n_bytes)
    with ByteReader(path) as reader:
        got = reader.read_into(memoryview(buffer))
        return bytes(buffer[:got]), reader.finish(n_bytes)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "gzipped but not named so"])
def test_reads_all_and_hashes_the_file_on_disk(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CONTENT if name == "a.nii" else gzip.compress(CONTENT))
    content, sha256 = _read(path)
    assert content == CONTENT
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_several_gzip_members_are_one_stream(tmp_path: Path) -> None:
    path = tmp_path / "blocks.nii.gz"
    path.write_bytes(gzip.compress(CONTENT[:30_000]) + gzip.compress(CONTENT[30_000:]))
    content, sha256 = _read(path)
    assert content == CONTENT
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (b"junk", "a.nii.gz is damaged: bytes that are no gzip follow its end; get a fresh copy"),
        (gzip.compress(b"more"), "holds more than the 70001 bytes"),
        (b"\x1f\x8b", "damaged or cut off"),
    ],
    ids=["junk", "member", "half a member"],
)
def test_what_follows_the_stream_is_refused(tmp_path: Path, tail: bytes, message: str) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(CONTENT) + tail)
    with pytest.raises(InputError, match=message):
        _read(path)


def test_a_plain_file_that_goes_on_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(CONTENT + b"x")
    with pytest.raises(InputError, match="holds more than the 70001 bytes"):
        _read(path)


@pytest.mark.parametrize("change", [-1, -5, -9], ids=["size", "checksum", "data"])
def test_a_flipped_bit_at_the_end_is_noticed(tmp_path: Path, change: int) -> None:
    content = bytearray(gzip.compress(CONTENT))
    content[change] ^= 4
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or cut off"):
        _read(path)


def test_missing_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.nii.gz").touch()
    for name, message in {
        "none.nii": "no such file: .*none.nii",
        "empty.nii.gz": "empty.nii.gz is empty",
        "": "expected a NIfTI file, got the folder",
    }.items():
        with pytest.raises(InputError, match=message):
            ByteReader(tmp_path / name)


def test_skip_says_how_far_it_came(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(CONTENT))
    with ByteReader(path) as reader:
        assert reader.skip(60_000) == 60_000
        assert reader.skip(60_000) == 10_001
