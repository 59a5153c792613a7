"""What the arguments of ingest mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slcluster.errors import DesignError, GeometryError, InputError
from slcluster.io.inputs import Inputs, find_inputs, read_inputs_mask, repetition_time, sample_columns
from tests.files import OBLIQUE, SHAPE, full_mask, numbers, write_nifti


def _find(bold: Any, subject: str | None = None) -> Inputs:
    return find_inputs(bold, subject, wants_events=True)


def _columns(inputs: Inputs, **given: Any) -> dict[str, np.ndarray]:
    nothing = dict.fromkeys(("labels", "events", "label_column", "run_column"))
    return sample_columns(inputs, **(nothing | {"tr_s": 2.0, "shift_s": 0.0} | given))


def _bids(root: Path, n_runs: int = 2) -> Path:
    func = root / "sub-07" / "func"
    func.mkdir(parents=True)
    for run in range(1, n_runs + 1):
        write_nifti(func / f"sub-07_task-x_run-{run}_bold.nii.gz", numbers(seed=run))
        table = pd.DataFrame({"onset": [10.0], "duration": [5.0], "trial_type": [f"c{run}"]})
        table.to_csv(func / f"sub-07_task-x_run-{run}_events.tsv", sep="\t", index=False)
    return root


def test_one_file_samples_and_runs(tmp_path: Path) -> None:
    four = [write_nifti(tmp_path / f"run{n}.nii.gz", numbers()[..., : 10 * n]) for n in (1, 2)]
    three = [write_nifti(tmp_path / f"beta{n}.nii", numbers()[..., n]) for n in range(4)]
    assert _find(str(four[1])).run_lengths == [20]
    assert _find(four).run_lengths == [10, 20]
    assert _find(tuple(map(str, three))).run_lengths == [4]
    assert _find(three).shape == (*SHAPE[:3], 4)
    assert _find(four[0]).subject == "run1"
    assert _find(four[0], "anna").subject == "anna"


def test_a_bids_folder_brings_events_and_the_subject(tmp_path: Path) -> None:
    inputs = _find(_bids(tmp_path))
    assert (inputs.subject, inputs.run_lengths) == ("07", [30, 30])
    columns = _columns(inputs, events=inputs.events, tr_s=2.5)
    assert columns["condition"].tolist() == [
        *(["rest"] * 4 + ["c1"] * 2 + ["rest"] * 24),
        *(["rest"] * 4 + ["c2"] * 2 + ["rest"] * 24),
    ]
    assert columns["run"].tolist() == [0] * 30 + [1] * 30
    assert find_inputs(tmp_path, None, wants_events=False).events is None
    next(tmp_path.glob("sub-07/func/*run-2_events.tsv")).unlink()
    with pytest.raises(
        InputError, match=r"no _events.tsv beside sub-07_task-x_run-2_bold.nii.gz; other runs"
    ):
        _find(tmp_path)
    next(tmp_path.glob("sub-07/func/*run-1_events.tsv")).unlink()
    assert _find(tmp_path).events is None


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    volume = write_nifti(tmp_path / "volume.nii.gz", numbers()[..., 0])
    series = write_nifti(tmp_path / "series.nii.gz", numbers())
    other = write_nifti(tmp_path / "other.nii.gz", numbers()[:, :8])
    moved = write_nifti(tmp_path / "moved.nii.gz", numbers(), OBLIQUE @ np.diag([1, 1, 1.01, 1]))
    for bold, error, message in [
        (volume, InputError, r"volume.nii.gz is 3D, shape \(7, 9, 5\); expected 4D, or a list of 3D files"),
        ([volume], InputError, "is 3D"),
        ([series, volume], InputError, "series.nii.gz is 4D and volume.nii.gz is 3D"),
        ([series, other], GeometryError, r"other.nii.gz has shape \(7, 8, 5\), the samples have \(7, 9, 5\)"),
        ([series, moved], GeometryError, "moved.nii.gz lies up to .* mm off the grid"),
        ([], InputError, "bold is an empty list"),
        (7, InputError, "bold must be a path or a list of paths, got int"),
        ([3], InputError, "bold must be a path or a list of paths"),
        (tmp_path / "none.nii", InputError, "no such file"),
    ]:
        with pytest.raises(error, match=message):
            _find(bold)


def test_no_mask_names_the_call_that_makes_one(tmp_path: Path) -> None:
    inputs = _find(write_nifti(tmp_path / "bold.nii.gz", numbers()))
    with pytest.raises(InputError, match=r"nilearn.masking.compute_epi_mask\('.*bold.nii.gz'\)") as caught:
        read_inputs_mask(None, inputs)
    assert "*_desc-brain_mask.nii.gz" in str(caught.value)


def test_fmriprep_masks_of_all_runs_are_joined(tmp_path: Path) -> None:
    files, masks = [], [full_mask(), full_mask()]
    masks[0][2], masks[1][:, 4] = False, False
    for run, mask in enumerate(masks):
        stem = f"sub-1_task-x_run-{run}_space-T1w_desc-"
        files.append(write_nifti(tmp_path / f"{stem}preproc_bold.nii.gz", numbers()))
        write_nifti(tmp_path / f"{stem}brain_mask.nii.gz", mask.astype("u1"))
    np.testing.assert_array_equal(read_inputs_mask(None, _find(files)), masks[0] & masks[1])
    np.testing.assert_array_equal(read_inputs_mask(None, _find(files[0])), masks[0])
    write_nifti(tmp_path / "sub-1_task-x_run-1_space-T1w_desc-brain_mask.nii.gz", (~masks[0]).astype("u1"))
    with pytest.raises(InputError, match="no voxel in common"):
        read_inputs_mask(None, _find(files))


def test_repetition_time_given_then_sidecar_then_header(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "bold.nii.gz", numbers(), tr_s=3.0)
    inputs = _find(path)
    assert repetition_time(None, inputs) == 3.0
    (tmp_path / "bold.json").write_text(json.dumps({"RepetitionTime": 2.0}))
    assert repetition_time(None, inputs) == 2.0
    assert repetition_time(1.5, inputs) == 1.5
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="expected the repetition time in seconds"):
            repetition_time(wrong, inputs)


def test_runs_of_different_repetition_times(tmp_path: Path) -> None:
    files = [write_nifti(tmp_path / f"run{n}.nii.gz", numbers(), tr_s=tr) for n, tr in enumerate((2.0, 3.0))]
    with pytest.raises(InputError, match=r"different repetition times \(2, 3 s\); give tr="):
        repetition_time(None, _find(files))
    assert repetition_time(2.0, _find(files)) == 2.0
    unknown = write_nifti(tmp_path / "unknown.nii.gz", numbers(), units=("mm", "unknown"))
    assert repetition_time(None, _find(unknown)) is None


def test_columns_and_what_does_not_fit(tmp_path: Path) -> None:
    files = [write_nifti(tmp_path / f"run{n}.nii.gz", numbers()[..., :4]) for n in range(2)]
    inputs = _find(files)
    labels = pd.DataFrame({"labels": list("aabbccdd")})
    events = pd.DataFrame({"onset": [0.0], "duration": [2.0], "trial_type": ["x"]})
    assert _columns(inputs)["condition"].tolist() == ["rest"] * 8
    assert _columns(inputs, labels=labels)["run"].tolist() == [0] * 4 + [1] * 4
    with_runs = labels.assign(chunks=[5, 5, 6, 6, 7, 7, 8, 8])
    assert _columns(inputs, labels=with_runs)["run"].tolist() == [5, 5, 6, 6, 7, 7, 8, 8]
    assert _columns(inputs, events=[events] * 2)["condition"].tolist() == ["x", *["rest"] * 3] * 2
    for given, error, message in [
        ({"labels": labels, "events": [events] * 2}, InputError, "both labels and events"),
        ({"labels": labels, "shift_s": 4.5}, InputError, "shift_s=4.5 is for events; labels name"),
        ({"events": events}, DesignError, "1 tables of events for 2 runs; expected one per run"),
        ({"events": [events] * 2, "tr_s": None}, InputError, "events need the repetition time.*give tr="),
        ({"events": [events] * 2, "shift_s": np.nan}, InputError, "shift_s is nan; expected seconds"),
    ]:
        with pytest.raises(error, match=message):
            _columns(inputs, **given)
