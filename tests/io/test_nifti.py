"""Headers: what nibabel makes of them, and what no file can hold."""

from __future__ import annotations

import io
import resource
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from slcluster.errors import GeometryError, InputError
from slcluster.io import read_header
from tests.files import OBLIQUE, SHAPE, nifti_bytes, numbers, write_nifti


@pytest.mark.parametrize("forms", [(1, 1), (2, 0), (0, 1), (0, 0), (4, 1)])
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_affine_and_forms_are_nibabels(tmp_path: Path, forms: tuple[int, int], kind: type) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers(), forms=forms, kind=kind)
    header, theirs = read_header(path), nib.load(path)
    np.testing.assert_array_equal(header.affine, theirs.affine)
    assert (header.attrs["sform_code"], header.attrs["qform_code"]) == forms
    np.testing.assert_array_equal(np.reshape(header.attrs["qform"], (4, 4)), theirs.header.get_qform())
    np.testing.assert_array_equal(np.reshape(header.attrs["sform"], (4, 4)), theirs.header.get_sform())


def test_qform_differs_from_sform_where_there_is_shear(tmp_path: Path) -> None:
    sheared = write_nifti(tmp_path / "s.nii", numbers(), forms=(1, 1))
    qform = write_nifti(tmp_path / "q.nii", numbers(), forms=(0, 1))
    np.testing.assert_allclose(read_header(sheared).affine, OBLIQUE, rtol=1e-6)
    assert np.abs(read_header(qform).affine - OBLIQUE).max() > 0.05


@pytest.mark.parametrize(
    ("units", "stored", "expected"),
    [("sec", 2.5, 2.5), ("msec", 2500, 2.5), ("usec", 2.5e6, 2.5), ("unknown", 2.5, None), ("sec", 0, None)],
)
def test_repetition_time_in_seconds(
    tmp_path: Path, units: str, stored: float, expected: float | None
) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers(), units=("mm", units), tr_s=stored)
    assert read_header(path).tr_s == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("scale", [(0.0, 5.0), (np.nan, 1.0), (np.inf, 1.0), (1.0, 0.0)])
def test_scales_that_are_none(tmp_path: Path, scale: tuple[float, float]) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers(), scale=scale)
    header = read_header(path)
    assert not header.is_scaled
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), numbers())


def test_trailing_axes_of_one_are_not_counted(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers().reshape(*SHAPE, 1, 1))
    assert (read_header(path).shape, read_header(path).n_dims) == (SHAPE, 4)
    path = write_nifti(tmp_path / "b.nii", numbers()[..., 0])
    assert (read_header(path).shape, read_header(path).n_dims) == ((*SHAPE[:3], 1), 3)


REPAIRED = {
    "qfac 0": lambda header: _set("pixdim", 0, 0)(header),
    "negative zooms": lambda header: _set("pixdim", -2.5, 2)(header),
    "unknown sform code": lambda header: _set("sform_code", 150)(header),
    "both codes unknown": lambda header: (_set("sform_code", 77)(header), _set("qform_code", -3)(header)),
    "bitpix": lambda header: _set("bitpix", 7)(header),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_nibabel_repairs_is_repaired_alike(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for forms in [(1, 1), (0, 1), (0, 0)]:
        path = write_nifti(tmp_path / "a.nii", numbers(), forms=forms, change=REPAIRED[name])
        affine = read_header(path).affine
        assert capsys.readouterr().err == ""
        assert caplog.records == []
        np.testing.assert_array_equal(affine, nib.load(path).affine)
        caplog.clear()
        capsys.readouterr()


def _set(field: str, value: Any, at: int | None = None) -> Any:
    def change(header: Any) -> None:
        if at is None:
            header[field] = value
        else:
            header[field][at] = value

    return change


HOSTILE = {
    "huge": (_set("dim", [4, 32767, 32767, 32767, 32767, 1, 1, 1]), "cut off or its header is wrong"),
    "negative": (_set("dim", -3, 2), "no axis may be under 1"),
    "zero": (_set("dim", 0, 4), "no axis may be under 1"),
    "5d": (_set("dim", [5, 7, 9, 5, 15, 2, 1, 1]), "expected 3 or 4 dimensions"),
    "2d": (_set("dim", [2, 7, 9, 1, 1, 1, 1, 1]), "expected 3 or 4 dimensions"),
    "no dimensions": (_set("dim", 0, 0), "invalid NIfTI header"),
    "unknown datatype": (_set("datatype", 77), "invalid NIfTI header"),
    "complex": (_set("datatype", 32), "expected real integers or floats"),
    "colour": (_set("datatype", 128), "expected real integers or floats"),
    "long double": (_set("datatype", 1536), "expected real integers or floats|invalid NIfTI header"),
    "offset beyond": (_set("vox_offset", 1e9), "cut off or its header is wrong"),
    "offset inside the header": (_set("vox_offset", 8), "vox offset 8 too low"),
    "offset zero": (_set("vox_offset", 0), "vox_offset 0.0, expected 352 or more"),
    "offset nan": (_set("vox_offset", np.nan), "vox_offset nan"),
    "offset half": (_set("vox_offset", 352.5), "vox_offset 352.5"),
    "intercept": (lambda h: (_set("scl_slope", 2)(h), _set("scl_inter", np.inf)(h)), "invalid intercept"),
    "pair": (_set("magic", b"ni1"), "half of a .hdr/.img pair"),
    "analyze": (_set("magic", b""), "is not NIfTI"),
    "no size": (_set("sizeof_hdr", 0), "is not NIfTI"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_hostile_headers_end_in_one_line_at_once(tmp_path: Path, name: str, ending: str) -> None:
    change, message = HOSTILE[name]
    path = write_nifti(tmp_path / f"hostile{ending}", numbers(), change=change)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(InputError, match=message) as caught:
        read_header(path)
    assert time.process_time() - begun < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    assert "\n" not in str(caught.value)
    assert "hostile" in str(caught.value)


def test_an_affine_that_is_no_grid(tmp_path: Path) -> None:
    def flat(header: Any) -> None:
        header["srow_x"] = header["srow_y"]

    path = write_nifti(tmp_path / "flat.nii", numbers(), change=flat)
    with pytest.raises(GeometryError, match="no grid in space"):
        read_header(path)


def test_not_nifti(tmp_path: Path) -> None:
    (tmp_path / "text.nii").write_text("sample,condition\n" * 100)
    (tmp_path / "short.nii").write_bytes(nifti_bytes(numbers())[:200])
    (tmp_path / "noise.nii.gz").write_bytes(np.random.default_rng(0).bytes(5000))
    for name, message in {
        "text.nii": "is not NIfTI: expected a .nii",
        "short.nii": "is not NIfTI: 200 bytes",
        "noise.nii.gz": "is not NIfTI",
    }.items():
        with pytest.raises(InputError, match=message):
            read_header(tmp_path / name)


def test_headers_of_noise_never_do_anything_else(tmp_path: Path) -> None:
    """Random bytes behind a valid magic are a header or an InputError, at once and without much memory."""
    rng = np.random.default_rng(1)
    content = bytearray(nifti_bytes(numbers()))
    path = tmp_path / "fuzz.nii"
    for _ in range(300):
        changed = bytearray(content)
        for at in rng.integers(40, 344, size=6):
            changed[at] = rng.integers(256)
        path.write_bytes(changed)
        try:
            header = read_header(path)
        except InputError:
            continue
        assert header.file_bytes <= len(content)
        theirs = nib.Nifti1Header.from_fileobj(io.BytesIO(changed), check=False)
        assert header.shape == theirs.get_data_shape()[:4]
