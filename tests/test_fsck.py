"""Stores looked at from end to end: what fsck finds, what it says to do, and what it repairs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.naive_bayes import GaussianNB

import slcluster as slc
from slcluster.cli import cli
from slcluster.errors import StoreError, StorePathError
from slcluster.progress import Step
from slcluster.store.lease import Lease
from slcluster.store.result import FINISHED_NAME
from tests.conftest import OBLIQUE
from tests.faults.driving import same
from tests.witness import noise_dataset

OPTIONS: dict[str, Any] = {"radius_mm": 5.5, "estimator": GaussianNB(), "block_centers": 5}


def _flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 4
    file.write_bytes(raw)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an ingested subject, of two shards, and its finished result."""
    folder = tmp_path_factory.mktemp("stores")
    ds = noise_dataset(affine=OBLIQUE)
    nibabel.Nifti1Image(ds["bold"].values, OBLIQUE).to_filename(folder / "bold.nii.gz")
    labels = ds[["condition", "run"]].to_dataframe().reset_index(drop=True)[["condition", "run"]]
    subject = slc.ingest(
        folder / "bold.nii.gz", folder / "sub-01.zarr", mask=ds["mask"].values, labels=labels, subject="01"
    )
    slc.searchlight(subject, out=folder / "maps.zarr", **OPTIONS)
    return folder


@pytest.fixture
def here(stores: Path, tmp_path: Path) -> Path:
    """A copy to be damaged; the plan of the result names the subject of the original."""
    for name in ("sub-01.zarr", "maps.zarr"):
        shutil.copytree(stores / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["sub-01.zarr", "maps.zarr"])
def test_a_sound_store(name: str, here: Path) -> None:
    steps: list[Step] = []
    check = slc.fsck(here / name, progress=steps.append)
    assert check.is_sound
    assert (check.damages, check.blocks, check.partial, check.holder, check.remedy) == ((), (), (), None, "")
    n_chunks = sum(
        "c" in file.relative_to(here / name).parts for file in (here / name).rglob("*") if file.is_file()
    )
    assert check.n_files == n_chunks > 10
    assert (steps[0].done, steps[-1].done, steps[-1].total) == (0, n_chunks, n_chunks)
    assert str(check).endswith("MB: sound")


def test_a_damaged_brick(here: Path) -> None:
    _flip(here / "sub-01.zarr" / "bold" / "c" / "0" / "0" / "0" / "0")
    check = slc.fsck(here / "sub-01.zarr", repair=True)
    assert not check.is_sound
    assert check.damages == ("bold/c/0/0/0/0: checksums of 1 of 1 bricks do not hold (samples 0 to 23)",)
    sha256 = json.loads((here / "sub-01.zarr" / "zarr.json").read_text())["attributes"]["sources_sha256"]
    assert check.remedy == (
        "restore it from a copy, or ingest again with --overwrite, from: "
        f"bold.nii.gz (SHA-256 {sha256[0][:12]}...)"
    )


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "index of a shard": (
        lambda store: _flip_last(store / "bold" / "c" / "0" / "0" / "0" / "0"),
        r"bold/c/0/0/0/0: the checksum of its index does not hold: all bricks are lost \(samples 0 to 23\)",
    ),
    "another array": (lambda store: _flip(store / "affine" / "c" / "0" / "0"), "affine/c/0/0: its checksum"),
    "lost shard": (
        lambda store: (store / "bold" / "c" / "0" / "0" / "0" / "0").unlink(),
        "lacks the file 'bold",
    ),
    "metadata": (lambda store: _flip(store / "mask" / "zarr.json"), "metadata of .* changed since"),
    "digest": (lambda store: (store / "digest.json").write_text("{"), "digest.json is damaged"),
    "no digest": (
        lambda store: (store / "digest.json").unlink(),
        "has no digest.json: writing it was cut off",
    ),
}


def _flip_last(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-6] ^= 1
    file.write_bytes(raw)


@pytest.mark.parametrize("name", list(DAMAGES))
def test_every_damage_of_a_subject_is_named(name: str, here: Path) -> None:
    harm, message = DAMAGES[name]
    harm(here / "sub-01.zarr")
    check = slc.fsck(here / "sub-01.zarr")
    assert not check.is_sound
    assert re.search(message, check.damages[0])
    assert name == "metadata" or len(check.damages) == 1


def test_several_damages_are_all_named(here: Path) -> None:
    store = here / "sub-01.zarr"
    for file in ("affine/c/0/0", "mean/c/0/0/0"):
        _flip(store / file)
    (store / "run" / "c" / "0").write_bytes(b"")
    check = slc.fsck(store)
    assert len(check.damages) == 4, "the size of the last, and what it is good for"
    assert all(any(name in damage for damage in check.damages) for name in ("affine", "mean", "run/c/0"))


def test_damaged_and_lost_blocks_are_computed_again(here: Path) -> None:
    out = here / "maps.zarr"
    before = slc.open_result(out)
    _flip(out / "score" / "c" / "3" / "0" / "0")
    (out / "n_unconverged" / "c" / "5" / "0").unlink()
    (out / "score" / "c" / "1" / "0" / "0.77.partial").write_bytes(b"half")
    check = slc.fsck(out)
    assert check.blocks == (3, 5)
    assert check.damages == (
        "block 3: score/c/3/0/0: its checksum does not hold",
        "block 5: n_unconverged/c/5/0 is lost",
    )
    assert check.remedy == f"to compute 2 blocks again: slcluster fsck --repair {out}"
    assert check.partial == ("score/c/1/0/0.77.partial",)
    inodes = {file: file.stat().st_ino for file in (out / "score" / "c").rglob("*") if file.is_file()}
    repaired = slc.fsck(out, repair=True)
    assert repaired.is_sound
    assert repaired.partial == ()
    assert same(slc.open_result(out), before)
    rewritten = {
        file.parts[-3] for file, inode in inodes.items() if file.exists() and file.stat().st_ino != inode
    }
    assert rewritten <= {"3", "5"}


def test_a_chunk_of_another_array_is_found_and_repaired(here: Path) -> None:
    """Its checksum holds, and no reader takes it."""
    out = here / "maps.zarr"
    before = slc.open_result(out)
    shutil.copy(out / "n_unconverged" / "c" / "3" / "0", out / "score" / "c" / "3" / "0" / "0")
    check = slc.fsck(out)
    assert check.damages == ("block 3: a chunk of another array is in its place",)
    assert slc.fsck(out, repair=True).is_sound
    assert same(slc.open_result(out), before)


def test_files_of_others_are_no_chunks(here: Path) -> None:
    for store, array in (("sub-01.zarr", "bold/c/0/0/0"), ("maps.zarr", "score/c/0")):
        before = slc.fsck(here / store)
        for name in (".nfs000000001", ".DS_Store"):
            (here / store / array / name).touch()
        (here / store / "notes" / "c").mkdir(parents=True)
        (here / store / "notes" / "c" / "0").touch()
        assert slc.fsck(here / store) == before


def test_an_array_that_cannot_be_opened_does_not_hide_the_others(here: Path) -> None:
    store = here / "sub-01.zarr"
    (store / "affine" / "zarr.json").write_text("{")
    _flip(store / "mean" / "c" / "0" / "0" / "0")
    damages = slc.fsck(store).damages
    assert any(damage.startswith("affine/zarr.json: cannot be read") for damage in damages)
    assert any(damage.startswith("mean/c/0/0/0: its checksum") for damage in damages)


def test_an_unfinished_result_is_repaired_without_going_on(here: Path) -> None:
    out = here / "maps.zarr"
    (out / FINISHED_NAME).unlink()
    (out / "score" / "c" / "3" / "0" / "0").unlink()
    _flip(out / "score" / "c" / "4" / "0" / "0")
    n_done = slc.status(out).n_done
    check = slc.fsck(out)
    assert check.remedy == f"1 block will be computed again when it goes on: slcluster resume {out}"
    assert slc.fsck(out, repair=True).is_sound
    assert slc.status(out).n_done == n_done, "nothing was computed"
    assert slc.status(out).state == "interrupted"


def test_blocks_that_are_not_done_yet_are_no_damage(here: Path) -> None:
    out = here / "maps.zarr"
    (out / FINISHED_NAME).unlink()
    (out / "score" / "c" / "3" / "0" / "0").unlink()
    assert slc.fsck(out).is_sound
    _flip(out / "score" / "c" / "4" / "0" / "0")
    assert slc.fsck(out).blocks == (4,)


def test_a_damaged_plan_cannot_be_repaired(here: Path) -> None:
    out = here / "maps.zarr"
    _flip(out / "center_ijk" / "c" / "0" / "0")
    check = slc.fsck(out)
    assert check.damages == ("center_ijk/c/0/0: its checksum does not hold",)
    assert check.remedy.startswith("its plan is damaged: restore it from a copy")
    assert not slc.fsck(out, repair=True).is_sound


def test_leftovers_are_swept_and_a_driver_is_left_alone(here: Path) -> None:
    out = here / "maps.zarr"
    dead = here / "maps.zarr.0123abcd.partial"
    dead.mkdir()
    (out / "score" / "c" / "1" / "0" / "0.77.partial").write_bytes(b"half")
    assert slc.fsck(out).partial == ("score/c/1/0/0.77.partial", "../maps.zarr.0123abcd.partial")
    with Lease(out):
        assert str(slc.fsck(out).holder).startswith("process ")
        with pytest.raises(StoreError, match="is being computed by process"):
            slc.fsck(out, repair=True)
    assert slc.fsck(out, repair=True).partial == ()
    assert not dead.exists()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(StorePathError, match="is not a slcluster store"):
            slc.fsck(path)


def test_on_the_command_line(here: Path, stores: Path) -> None:
    run = CliRunner().invoke
    done = run(cli, ["fsck", str(here), "-q"])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("sound") == 2
    _flip(here / "maps.zarr" / "score" / "c" / "3" / "0" / "0")
    done = run(cli, ["fsck", str(here), "-q", "--json"])
    assert done.exit_code == 1
    told = {Path(one["path"]).name: one for one in map(json.loads, done.stdout.splitlines())}
    assert (told["maps.zarr"]["blocks"], told["sub-01.zarr"]["blocks"]) == ([3], [])
    done = run(cli, ["fsck", str(here / "maps.zarr"), "-q", "--repair", "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert "DAMAGED" not in done.stdout
    assert np.isfinite(slc.open_result(here / "maps.zarr")["score"].values).sum() == 47
    done = run(cli, ["fsck", str(here / "none.zarr")])
    assert done.exit_code == 2


def test_a_result_that_is_held_does_not_keep_others_from_repair(here: Path) -> None:
    shutil.copytree(here / "maps.zarr", here / "a.zarr")
    for name in ("a.zarr", "maps.zarr"):
        _flip(here / name / "score" / "c" / "3" / "0" / "0")
    with Lease(here / "a.zarr"):
        done = CliRunner().invoke(cli, ["fsck", str(here), "-q", "--repair", "--workers", "1"])
    assert done.exit_code == 1
    assert "warning: " in done.stderr
    assert "a.zarr is being computed by process" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("slcluster: error: 1 of 3 stores failed: ")
    assert (done.stdout.count("sound"), done.stdout.count("DAMAGED")) == (2, 1)
    assert slc.fsck(here / "maps.zarr").is_sound


def test_a_damaged_result_does_not_hide_the_status_of_others(here: Path) -> None:
    shutil.copytree(here / "maps.zarr", here / "bad.zarr")
    (here / "bad.zarr" / "digest.json").unlink()
    done = CliRunner().invoke(cli, ["status", str(here)])
    assert done.exit_code == 1
    assert "finished" in done.stdout
    assert "bad.zarr has no digest.json" in done.stderr
