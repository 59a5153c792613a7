"""Files to stores: every number, every header, every cut."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from isal import igzip

import slcluster as slc
from slcluster.errors import DesignError, GeometryError, InputError, SlclusterError, StoreError
from slcluster.progress import Step
from slcluster.store import open_store, source_of, subject_digest
from tests.files import OBLIQUE, SHAPE, full_mask, nifti_bytes, numbers, write_nifti

LABELS = pd.DataFrame({"labels": ["face", "house", "rest"] * 10, "chunks": np.repeat([0, 1, 2], 10)})


def _ingest(bold: Any, store: Path, **options: Any) -> xr.Dataset:
    return slc.ingest(bold, store, **({"mask": full_mask(), "labels": LABELS} | options))


def _nibabel(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


class TestRealSlice:
    def test_table_and_bids_give_one_subject(self, test_data: Path, tmp_path: Path) -> None:
        haxby = test_data / "haxby2001"
        mask = haxby / "mask.nii.gz"
        bold, labels = haxby / "subj1" / "bold.nii.gz", haxby / "subj1" / "labels.txt"
        table = slc.ingest(bold, tmp_path / "table.zarr", mask=mask, labels=labels)
        bids = slc.ingest(test_data / "haxby2001-bids", tmp_path / "bids.zarr", mask=mask)
        for name in ("bold", "mask", "mean", "condition", "run", "sample_index", "affine"):
            np.testing.assert_array_equal(table[name].values, bids[name].values, err_msg=name)
        np.testing.assert_array_equal(table["bold"].values, _nibabel(bold))
        np.testing.assert_array_equal(table["affine"].values, nib.load(bold).affine)
        rows = np.loadtxt(labels, dtype=str, skiprows=1)
        assert table["condition"].values.tolist() == rows[:, 0].tolist()
        assert table["run"].values.tolist() == rows[:, 1].astype(int).tolist()
        assert (int(table["mask"].sum()), bids.attrs["subject"], bids.attrs["tr_s"]) == (530, "01", 2.5)
        chosen = slc.select(table, conditions=["face", "house"])
        assert Counter(chosen["condition"].values.tolist()) == {"face": 108, "house": 108}

    def test_sources_are_named_and_hashed(self, test_data: Path, tmp_path: Path) -> None:
        bold = test_data / "haxby2001" / "subj1" / "bold.nii.gz"
        ds = slc.ingest(bold, tmp_path / "s.zarr", mask=test_data / "haxby2001" / "mask.nii.gz")
        assert ds.attrs["sources"] == ["bold.nii.gz"]
        assert ds.attrs["sources_sha256"] == [hashlib.sha256(bold.read_bytes()).hexdigest()]
        assert str(test_data) not in (tmp_path / "s.zarr" / "zarr.json").read_text()

    def test_flips_and_cuts_of_the_real_file(self, test_data: Path, tmp_path: Path) -> None:
        haxby = test_data / "haxby2001"
        content = (haxby / "subj1" / "bold.nii.gz").read_bytes()
        rng = np.random.default_rng(5)
        for n, at in enumerate(rng.integers(len(content), size=12)):
            damaged = bytearray(content)
            damaged[at] ^= 1 << int(rng.integers(8))
            (tmp_path / "bold.nii.gz").write_bytes(damaged if n % 2 else content[:at])
            with pytest.raises(InputError):
                slc.ingest(tmp_path / "bold.nii.gz", tmp_path / "s.zarr", mask=haxby / "mask.nii.gz")
            assert [path.name for path in tmp_path.iterdir()] == ["bold.nii.gz"]


class TestNumbers:
    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", "<i4", "<f4", ">f4", "<f8", ">f8"])
    def test_as_stored(self, tmp_path: Path, dtype: str, ending: str) -> None:
        native = np.dtype(dtype).newbyteorder("=")
        path = write_nifti(tmp_path / f"bold{ending}", numbers(dtype=native.name).astype(dtype))
        ds = _ingest(path, tmp_path / "s.zarr")
        assert ds["bold"].dtype == native
        np.testing.assert_array_equal(ds["bold"].values, _nibabel(path))
        np.testing.assert_allclose(ds["mean"].values, _nibabel(path).mean(-1, dtype="f8"), rtol=1e-6)
        assert ds["mean"].dtype == np.float32
        assert not ds["nonfinite"].values.any()

    @pytest.mark.parametrize("dtype", ["<i2", ">u2", "u1"])
    @pytest.mark.parametrize("scale", [(0.0371, -11.25), (2.0, 0.0), (1.0, 5.0), (-0.5, 0.0)])
    def test_scaled_integers_stay_raw_and_decode_to_nibabels(
        self, tmp_path: Path, dtype: str, scale: tuple[float, float]
    ) -> None:
        native = np.dtype(dtype).newbyteorder("=").name
        path = write_nifti(tmp_path / "bold.nii.gz", numbers(dtype=native).astype(dtype), scale=scale)
        ds = _ingest(path, tmp_path / "s.zarr")
        assert ds["bold"].dtype == np.float64
        assert ds["bold"].encoding["dtype"] == native
        np.testing.assert_array_equal(ds["bold"].values, _nibabel(path))
        np.testing.assert_array_equal(xr.open_zarr(tmp_path / "s.zarr")["bold"].values, _nibabel(path))
        np.testing.assert_allclose(ds["mean"].values, _nibabel(path).mean(-1), rtol=1e-6, atol=1e-5)

    def test_scaled_floats_become_float64(self, tmp_path: Path) -> None:
        path = write_nifti(tmp_path / "bold.nii.gz", numbers(dtype="float32"), scale=(0.1, 3.0))
        ds = _ingest(path, tmp_path / "s.zarr")
        assert ds["bold"].dtype == np.float64
        np.testing.assert_array_equal(ds["bold"].values, path_values(path, "f8"))

    @pytest.mark.parametrize(
        ("kinds", "expected"),
        [
            ([("i2", None), ("i2", None)], "int16"),
            ([("i2", (0.5, 1.0)), (">i2", (0.5, 1.0))], "float64"),
            ([("i2", (0.5, 1.0)), ("i2", (0.25, 1.0))], "float32"),
            ([("i2", None), ("i2", (0.25, 1.0))], "float32"),
            ([("i2", None), ("u1", None)], "float32"),
            ([("i2", None), ("f4", None)], "float32"),
            ([("f4", None), (">f4", None)], "float32"),
            ([("i2", None), ("f8", None)], "float64"),
            ([("f4", None), ("f4", (2.0, 0.0))], "float64"),
        ],
    )
    def test_runs_of_different_kinds(self, tmp_path: Path, kinds: list[Any], expected: str) -> None:
        files = []
        for n, (dtype, scale) in enumerate(kinds):
            stored = numbers((*SHAPE[:3], 15), np.dtype(dtype).newbyteorder("=").name, seed=n).astype(dtype)
            files.append(write_nifti(tmp_path / f"run{n}.nii.gz", stored, scale=scale))
        ds = _ingest(files, tmp_path / "s.zarr", labels=None)
        assert ds["bold"].dtype == expected
        both = np.concatenate([path_values(file, expected) for file in files], axis=-1)
        np.testing.assert_array_equal(ds["bold"].values, both)
        assert ds["run"].values.tolist() == [0] * 15 + [1] * 15
        assert ds.attrs["sources"] == ["run0.nii.gz", "run1.nii.gz"]

    def test_single_volumes_are_samples(self, tmp_path: Path) -> None:
        files = [write_nifti(tmp_path / f"beta{n:02d}.nii", numbers()[..., n]) for n in range(30)]
        ds = _ingest(files, tmp_path / "s.zarr")
        np.testing.assert_array_equal(ds["bold"].values, numbers())
        assert ds["run"].values.tolist() == LABELS["chunks"].tolist()
        assert len(ds.attrs["sources_sha256"]) == 30

    @pytest.mark.parametrize("slabs", [1, 2, 4])
    def test_slabs_do_not_show(self, tmp_path: Path, slabs: int) -> None:
        stored = numbers((40, 41, 42, 97), "float32")
        stored[3, 4, 5, 6], stored[39, 40, 41, 96], stored[0, 0, 0, :] = np.nan, -np.inf, np.inf
        path = write_nifti(tmp_path / "bold.nii.gz", stored)
        slab_bytes = stored.nbytes / slabs
        budget = int(200e6 + 1.25 * slab_bytes)
        ds = _ingest(
            path, tmp_path / "s.zarr", mask=full_mask(stored.shape), labels=None, memory_budget=budget
        )
        assert len(list((tmp_path / "s.zarr/bold/c/0/0/0").iterdir())) == slabs
        np.testing.assert_array_equal(ds["bold"].values, stored)
        np.testing.assert_array_equal(ds["nonfinite"].values, ~np.isfinite(stored).all(-1))
        with np.errstate(invalid="ignore"):
            expected = stored.mean(-1, dtype=np.float64).astype(np.float32)
        np.testing.assert_allclose(ds["mean"].values, expected, rtol=1e-6)

    def test_sums_that_overflow_are_not_taken_for_infinities(self, tmp_path: Path) -> None:
        stored = np.full(SHAPE, 1.7e308)
        stored[1, 2, 3, 4] = np.inf
        ds = _ingest(write_nifti(tmp_path / "bold.nii", stored), tmp_path / "s.zarr")
        assert np.argwhere(ds["nonfinite"].values).tolist() == [[1, 2, 3]]

    def test_axes_of_length_one(self, tmp_path: Path) -> None:
        for shape in [(1, 9, 5, 30), (7, 1, 1, 30), (1, 1, 1, 30), (7, 9, 5, 1)]:
            path = write_nifti(tmp_path / "bold.nii.gz", numbers(shape))
            ds = _ingest(path, tmp_path / "s.zarr", mask=full_mask(shape), labels=None, overwrite=True)
            np.testing.assert_array_equal(ds["bold"].values, numbers(shape))


def path_values(path: Path, dtype: str) -> np.ndarray:
    """What nibabel gives for a dtype; integers are not scaled by it."""
    if np.dtype(dtype).kind == "f":
        return np.asarray(nib.load(path).get_fdata(dtype=np.dtype(dtype)))
    return _nibabel(path)


class TestSpace:
    FLIPPED = np.array([[-2.0, 0, 0, 90], [0, 2.5, 0, -126], [0, 0, -3, 72], [0, 0, 0, 1]])

    @pytest.mark.parametrize("forms", [(1, 1), (4, 0), (0, 2), (0, 0)])
    @pytest.mark.parametrize("name", ["oblique", "flipped"])
    def test_affine_and_header_are_nibabels(self, tmp_path: Path, name: str, forms: tuple[int, int]) -> None:
        affine = OBLIQUE if name == "oblique" else self.FLIPPED
        path = write_nifti(tmp_path / "bold.nii.gz", numbers(), affine, forms=forms)
        theirs = nib.load(path)
        ds = _ingest(path, tmp_path / "s.zarr")
        np.testing.assert_array_equal(ds["affine"].values, theirs.affine)
        np.testing.assert_array_equal(np.reshape(ds.attrs["sform"], (4, 4)), theirs.header.get_sform())
        np.testing.assert_array_equal(np.reshape(ds.attrs["qform"], (4, 4)), theirs.header.get_qform())
        assert (ds.attrs["sform_code"], ds.attrs["qform_code"]) == forms
        assert (ds.attrs["xyzt_units"], ds.attrs["tr_s"]) == (10, 2.5)

    def test_a_mask_of_another_grid_writes_nothing(self, tmp_path: Path) -> None:
        path = write_nifti(tmp_path / "bold.nii.gz", numbers())
        mask = write_nifti(tmp_path / "mask.nii.gz", full_mask().astype("u1"), self.FLIPPED)
        with pytest.raises(GeometryError, match=r"mask lies up to .* mm off .*nilearn.image.resample_to_img"):
            _ingest(path, tmp_path / "s.zarr", mask=mask)
        with pytest.raises(GeometryError, match=r"mask has shape \(7, 9, 4\)"):
            _ingest(path, tmp_path / "s.zarr", mask=full_mask((7, 9, 4)))
        with pytest.raises(InputError, match="mask is empty"):
            _ingest(path, tmp_path / "s.zarr", mask=~full_mask())
        assert not (tmp_path / "s.zarr").exists()


class TestLabels:
    def test_columns_are_kept(self, tmp_path: Path) -> None:
        path = write_nifti(tmp_path / "bold.nii.gz", numbers())
        LABELS.assign(age=range(30), valence=0.5, note="ü").to_csv(
            tmp_path / "labels.tsv", sep="\t", index=False
        )
        ds = _ingest(path, tmp_path / "s.zarr", labels=tmp_path / "labels.tsv")
        assert ds["condition"].values.tolist() == LABELS["labels"].tolist()
        assert (ds["age"].dtype, ds["valence"].dtype, ds["note"].values[3]) == (np.int64, np.float64, "ü")
        assert set(ds.coords) >= {"age", "valence", "note", "condition", "run", "sample_index"}

    @pytest.mark.parametrize("n", [29, 31])
    def test_too_few_or_many_write_nothing(self, tmp_path: Path, n: int) -> None:
        path = write_nifti(tmp_path / "bold.nii.gz", numbers())
        labels = pd.concat([LABELS, LABELS])[:n]
        with pytest.raises(DesignError, match=f"has {n} rows for 30 volumes; expected one row a volume"):
            _ingest(path, tmp_path / "s.zarr", labels=labels)
        assert not (tmp_path / "s.zarr").exists()

    def test_events_with_time_from_the_header(self, tmp_path: Path) -> None:
        path = write_nifti(tmp_path / "bold.nii.gz", numbers(), tr_s=2000.0, units=("mm", "msec"))
        events = pd.DataFrame({"onset": [4.0], "duration": [4.0], "trial_type": ["face"]})
        ds = _ingest(path, tmp_path / "s.zarr", labels=None, events=events, shift_s=2.0)
        assert np.flatnonzero(ds["condition"].values == "face").tolist() == [3, 4]
        with pytest.raises(InputError, match="both labels and events"):
            _ingest(path, tmp_path / "t.zarr", events=events)

    def test_a_column_that_no_store_can_have(self, tmp_path: Path) -> None:
        path = write_nifti(tmp_path / "bold.nii.gz", numbers())
        with pytest.raises(InputError, match="a column of the labels is called 'mean'"):
            _ingest(path, tmp_path / "s.zarr", labels=LABELS.assign(mean=1.0))
        assert [p.name for p in tmp_path.iterdir()] == ["bold.nii.gz"]


def test_progress_counts_samples(tmp_path: Path) -> None:
    steps: list[Step] = []
    _ingest(write_nifti(tmp_path / "bold.nii.gz", numbers()), tmp_path / "s.zarr", progress=steps.append)
    assert {(step.stage, step.unit, step.total) for step in steps} == {("ingest", "sample", 30)}
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 30)


def test_the_store_is_intact_and_the_same_every_time(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "bold.nii.gz", numbers())
    ds = _ingest(path, tmp_path / "a.zarr", subject="anna")
    _ingest(path, tmp_path / "b.zarr", subject="anna")
    assert source_of(ds) is not None
    assert ds.identical(open_store(tmp_path / "a.zarr"))
    assert subject_digest(tmp_path / "a.zarr") == subject_digest(tmp_path / "b.zarr")
    other = write_nifti(tmp_path / "bold.nii.gz", numbers(seed=1))
    _ingest(other, tmp_path / "c.zarr", subject="anna")
    assert subject_digest(tmp_path / "a.zarr") != subject_digest(tmp_path / "c.zarr")


class TestMemory:
    def test_the_error_names_the_budget_that_works(self, tmp_path: Path) -> None:
        stored = np.zeros((64, 64, 40, 40), "f4")
        path = write_nifti(tmp_path / "bold.nii.gz", stored)
        options = {"mask": full_mask(stored.shape), "labels": None}
        with pytest.raises(
            InputError, match=r"at least 24 are needed; pass memory_budget='\d+MB' or more"
        ) as caught:
            _ingest(path, tmp_path / "s.zarr", **options, memory_budget="210MB")
        needed = str(caught.value).split("'")[1]
        _ingest(path, tmp_path / "s.zarr", **options, memory_budget=needed)

    @pytest.mark.parametrize("budget", ["lots", "", "-3MB", "1.2.3GB", "5XB"])
    def test_budgets_that_are_none(self, tmp_path: Path, budget: str) -> None:
        with pytest.raises(InputError, match='memory_budget must be bytes, or a size such as "512MB"'):
            _ingest(tmp_path / "none.nii", tmp_path / "s.zarr", memory_budget=budget)

    def test_peak_stays_under_the_budget(self, tmp_path: Path) -> None:
        """400 MB of voxels through a process of at most 260 MB."""
        shape = (64, 64, 40, 1200)
        volume = np.random.default_rng(0).integers(0, 2000, shape[2::-1]).astype("<i2")
        header = nifti_bytes(np.empty((*shape[:3], 0), "<i2"), change=lambda h: h.set_data_shape(shape))
        with igzip.open(tmp_path / "bold.nii.gz", "wb", compresslevel=0) as file:
            file.write(header)
            for n in range(shape[3]):
                file.write((volume + n).tobytes())
        code = """
            import sys, numpy as np, slcluster as slc
            from tests.files import peak_bytes
            ds = slc.ingest(sys.argv[1], sys.argv[2], mask=np.ones((64, 64, 40), bool), memory_budget="260MB")
            print(peak_bytes(), ds["bold"][3, 4, 5].values.sum())
        """
        done = _python(code, tmp_path / "bold.nii.gz", tmp_path / "s.zarr")
        peak, total = map(int, done.stdout.split())
        assert total == (int(volume[5, 4, 3]) * 1200 + sum(range(1200)))
        assert peak < 260e6


def _python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    # Where a test makes writing fail, Python must not try to write the bytecode of what it imports.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment)


def test_neither_scikit_learn_nor_distributed_is_imported(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "bold.nii.gz", numbers())
    code = """
        import sys, numpy as np, slcluster as slc
        slc.ingest(sys.argv[1], sys.argv[2], mask=np.ones((7, 9, 5), bool), progress=print)
        print("LOADED", sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[3:])))
    """
    heavy = ["sklearn", "distributed", "matplotlib", "nilearn", "numba", "tornado", "bokeh", "IPython"]
    done = _python(code, path, tmp_path / "s.zarr", *heavy)
    assert done.stdout.splitlines()[-1] == "LOADED []"


class TestCutOff:
    """Whatever ends an ingest early, no store is there afterwards, and the next one works."""

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    def test_flips_and_truncations(self, tmp_path: Path, ending: str) -> None:
        """200 flips and 200 truncations: refused, or the same voxels and header."""
        whole = nifti_bytes(numbers((7, 9, 5, 6)))
        content = gzip.compress(whole, 6) if ending == ".nii.gz" else whole
        path = tmp_path / f"bold{ending}"
        rng = np.random.default_rng(7)
        outcomes = {"refused": 0, "same": 0}
        n_flips = 200 if ending == ".nii.gz" else 0  # a plain .nii has no checksum to tell by
        for n, at in enumerate(rng.integers(len(content), size=n_flips + 200)):
            damaged = bytearray(content if n < n_flips else content[:at])
            if n < n_flips:
                damaged[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            outcomes[self._outcome(path, tmp_path / "s.zarr", whole)] += 1
        assert outcomes["refused"] >= 390 * (n_flips + 200) / 400
        assert outcomes["same"] <= 10

    def _outcome(self, path: Path, store: Path, whole: bytes) -> str:
        try:
            ds = _ingest(path, store, labels=None)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert [p.name for p in store.parent.iterdir()] == [path.name]
            return "refused"
        np.testing.assert_array_equal(ds["bold"].values, numbers((7, 9, 5, 6)))
        np.testing.assert_array_equal(ds["affine"].values, nib.Nifti1Image.from_bytes(whole).affine)
        subprocess.run(["rm", "-r", str(store)], check=True)
        return "same"

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda p: None, "no such file"),
            (lambda p: p.touch(), "is empty"),
            (lambda p: p.write_bytes(b"x" * 4000), "is not NIfTI"),
            (lambda p: p.write_bytes(gzip.compress(nifti_bytes(numbers()))[:-3000]), "cut off"),
            (lambda p: p.write_bytes(gzip.compress(nifti_bytes(numbers()) + b"more")), "holds more than"),
            (lambda p: p.write_bytes(gzip.compress(nifti_bytes(numbers())) * 2), "holds more than"),
            (
                lambda p: p.write_bytes(gzip.compress(nifti_bytes(numbers()[..., 0]))),
                r"is 3D, shape \(7, 9, 5\)",
            ),
        ],
    )
    def test_bad_files_leave_nothing(self, tmp_path: Path, make: Any, message: str) -> None:
        path = tmp_path / "files" / "bold.nii.gz"
        path.parent.mkdir()
        make(path)
        with pytest.raises(InputError, match=message) as caught:
            _ingest(path, tmp_path / "s.zarr")
        assert "\n" not in str(caught.value)
        assert [p.name for p in tmp_path.iterdir()] == ["files"]

    def test_a_bomb_is_not_inflated(self, tmp_path: Path) -> None:
        """A header of 20 kB before a gigabyte of zeros ends at the first byte too many."""
        bomb = gzip.compress(nifti_bytes(numbers()) + bytes(2**28), 9)
        (tmp_path / "bold.nii.gz").write_bytes(bomb)
        with pytest.raises(InputError, match="holds more than"):
            _ingest(tmp_path / "bold.nii.gz", tmp_path / "s.zarr")

    def test_an_exception_or_interrupt_removes_the_staging(self, tmp_path: Path) -> None:
        path = write_nifti(tmp_path / "bold.nii.gz", numbers())
        old = _ingest(path, tmp_path / "s.zarr").compute()
        before = sorted(p.name for p in tmp_path.iterdir())

        def stop(step: Step) -> None:
            assert any(p.name.endswith(".partial") for p in tmp_path.iterdir())
            if step.done > 10:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _ingest(path, tmp_path / "s.zarr", subject="other", overwrite=True, progress=stop)
        assert sorted(p.name for p in tmp_path.iterdir()) == before
        assert open_store(tmp_path / "s.zarr").identical(old)

    @pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
    def test_a_killed_process_leaves_no_store(self, tmp_path: Path, share: float) -> None:
        path = write_nifti(tmp_path / "bold.nii.gz", numbers())
        code = """
            import os, signal, sys, numpy as np, slcluster as slc
            def kill(step):
                if step.done >= float(sys.argv[3]) * step.total:
                    os.kill(os.getpid(), signal.SIGKILL)
            slc.ingest(sys.argv[1], sys.argv[2], mask=np.ones((7, 9, 5), bool), progress=kill)
        """
        with pytest.raises(subprocess.CalledProcessError) as caught:
            _python(code, path, tmp_path / "s.zarr", share)
        assert caught.value.returncode == -signal.SIGKILL
        assert len(list(tmp_path.glob("s.zarr.*.partial"))) == 1
        with pytest.raises(StoreError, match="no store at"):
            open_store(tmp_path / "s.zarr")
        for left in tmp_path.glob("*.partial"):
            with pytest.raises(StoreError):
                open_store(left)
        _ingest(path, tmp_path / "s.zarr")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["bold.nii.gz", "s.zarr"]

    @pytest.mark.parametrize("limit", [500, 5_000, 17_000])
    def test_a_full_disk_is_one_line_and_nothing_left(self, tmp_path: Path, limit: int) -> None:
        """A limit on the size of files makes the operating system itself refuse to write on."""
        path = write_nifti(tmp_path / "bold.nii.gz", numbers(dtype="float32"))
        code = """
            import resource, sys, numpy as np, slcluster as slc
            import dask.array, pandas
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
            try:
                slc.ingest(sys.argv[1], sys.argv[2], mask=np.ones((7, 9, 5), bool))
            except slc.errors.StoreError as error:
                print(error)
        """
        done = _python(code, path, tmp_path / "s.zarr", limit)
        (line,) = done.stdout.splitlines()
        assert line.startswith(f"cannot write {tmp_path / 's.zarr'}: ")
        assert line.endswith("free some space or choose another place (nothing was left behind)")
        assert [p.name for p in tmp_path.iterdir()] == ["bold.nii.gz"]

    def test_existing_paths(self, tmp_path: Path) -> None:
        path = write_nifti(tmp_path / "bold.nii.gz", numbers())
        _ingest(path, tmp_path / "s.zarr")
        with pytest.raises(
            StoreError, match=r"s.zarr exists; open it with open_store, or pass overwrite=True"
        ):
            _ingest(path, tmp_path / "s.zarr")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "precious").touch()
        with pytest.raises(StoreError, match=r"folder exists and is no slcluster store; choose another path"):
            _ingest(path, tmp_path / "folder", overwrite=True)
        assert (tmp_path / "folder" / "precious").exists()
        assert os.path.isdir(tmp_path / "s.zarr")


def test_every_error_is_ours(tmp_path: Path) -> None:
    """Random bytes anywhere in a header end in an error of the tree or in a store, never in anything else."""
    rng = np.random.default_rng(2)
    whole = nifti_bytes(numbers((3, 4, 2, 5)))
    for _ in range(80):
        changed = bytearray(whole)
        for at in rng.integers(0, 352, size=3):
            changed[at] = rng.integers(256)
        (tmp_path / "bold.nii").write_bytes(changed)
        try:
            ds = slc.ingest(
                tmp_path / "bold.nii", tmp_path / "s.zarr", mask=np.ones((3, 4, 2)), overwrite=True
            )
        except SlclusterError as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        np.testing.assert_array_equal(ds["affine"].values, nib.load(tmp_path / "bold.nii").affine)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tr": "x"}, "tr is 'x'; expected the repetition time in seconds"),
        ({"subject": ""}, "subject must be a name, got ''; leave it out"),
        ({"subject": " "}, "subject must be a name, got ' '"),
        ({"subject": 3}, "subject must be a name, got 3"),
    ],
)
def test_arguments_that_say_nothing_are_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "bold.nii"
    path.write_bytes(nifti_bytes(numbers()))
    with pytest.raises(InputError, match=words):
        _ingest(path, tmp_path / "s.zarr", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["bold.nii"]
