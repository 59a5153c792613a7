"""Runs, sidecars and masks by their BIDS names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slcluster.errors import InputError
from slcluster.io.bids import brain_mask_beside, entities, find_runs, repetition_time_s


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_entities_are_whole_words() -> None:
    name = Path("sub-01_ses-b_task-my_run-02_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz")
    assert entities(name) == {
        "sub": "01",
        "ses": "b",
        "task": "my",
        "run": "02",
        "space": "MNI152NLin2009cAsym",
        "desc": "preproc",
    }
    assert entities(Path("my-best-file.nii")) == {}
    assert entities(Path("hersub-01.nii")) == {"hersub": "01"}


def test_the_real_data_set(test_data: Path) -> None:
    root = test_data / "haxby2001-bids"
    runs = find_runs(root)
    assert [entities(run.bold)["run"] for run in runs] == [f"{n:02d}" for n in range(1, 13)]
    assert all(run.events is not None and run.events.is_file() for run in runs)
    assert [run.bold for run in find_runs(root / "sub-01")] == [run.bold for run in runs]
    assert find_runs(root, "01") == find_runs(root, "sub-01") == runs
    assert repetition_time_s(runs[3].bold) == 2.5


def test_runs_are_in_order_of_session_and_number(tmp_path: Path) -> None:
    for ses in ("2", "1"):
        for run in ("10", "2", "1"):
            _touch(tmp_path / f"sub-a/ses-{ses}/func/sub-a_ses-{ses}_task-x_run-{run}_bold.nii")
    _touch(tmp_path / "derivatives/fmriprep/sub-a/func/sub-a_task-x_desc-preproc_bold.nii.gz")
    found = [entities(run.bold) for run in find_runs(tmp_path)]
    assert [(e["ses"], e["run"]) for e in found] == [
        *(("1", run) for run in ("1", "2", "10")),
        *(("2", run) for run in ("1", "2", "10")),
    ]


def test_what_cannot_be_chosen_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no sub-"):
        find_runs(tmp_path)
    _touch(tmp_path / "sub-a/func/sub-a_task-x_bold.nii.gz", tmp_path / "sub-b/func/sub-b_task-x_bold.nii.gz")
    with pytest.raises(InputError, match="has the subjects a, b; name one as subject="):
        find_runs(tmp_path)
    with pytest.raises(InputError, match="no subject 'c'; it has a, b"):
        find_runs(tmp_path, "sub-c")
    assert [run.bold.name for run in find_runs(tmp_path, "b")] == ["sub-b_task-x_bold.nii.gz"]
    _touch(tmp_path / "sub-b/func/sub-b_task-y_bold.nii.gz")
    with pytest.raises(
        InputError, match=r"several kinds of runs \(sub-b task-x; sub-b task-y\); pass the list"
    ):
        find_runs(tmp_path, "b")


def test_two_files_of_one_run(tmp_path: Path) -> None:
    _touch(*(tmp_path / f"sub-a/func/sub-a_task-x_run-1_bold.nii{ending}" for ending in ("", ".gz")))
    with pytest.raises(InputError, match=r"run-1_bold.nii and sub-a_task-x_run-1_bold.nii.gz are one run"):
        find_runs(tmp_path)


def test_the_nearest_sidecar_that_fits(tmp_path: Path) -> None:
    bold = tmp_path / "sub-a/func/sub-a_task-x_run-1_bold.nii.gz"
    _touch(bold)
    assert repetition_time_s(bold) is None

    def sidecar(place: str, **content: object) -> None:
        (tmp_path / place).write_text(json.dumps(content))

    sidecar("dataset_description.json", Name="x")
    sidecar("bold.json", RepetitionTime=1.0)
    assert repetition_time_s(bold) == 1.0
    sidecar("task-y_bold.json", RepetitionTime=9.0)
    assert repetition_time_s(bold) == 1.0
    sidecar("task-x_bold.json", RepetitionTime=2.0)
    assert repetition_time_s(bold) == 2.0
    sidecar("sub-a/func/sub-a_task-x_bold.json", TaskName="no time here")
    assert repetition_time_s(bold) == 2.0
    sidecar("sub-a/func/sub-a_task-x_run-1_bold.json", RepetitionTime=3)
    assert repetition_time_s(bold) == 3.0


def test_sidecars_outside_the_data_set_do_not_count(tmp_path: Path) -> None:
    bold = tmp_path / "set/sub-a/func/sub-a_task-x_bold.nii.gz"
    _touch(bold, tmp_path / "set/dataset_description.json")
    (tmp_path / "task-x_bold.json").write_text('{"RepetitionTime": 7}')
    assert repetition_time_s(bold) is None


def test_a_plain_name_has_its_own_sidecar_only(tmp_path: Path) -> None:
    bold = tmp_path / "scan.nii.gz"
    _touch(bold)
    (tmp_path / "bold.json").write_text('{"RepetitionTime": 7}')
    assert repetition_time_s(bold) is None
    (tmp_path / "scan.json").write_text('{"RepetitionTime": 2.2}')
    assert repetition_time_s(bold) == 2.2


@pytest.mark.parametrize(
    "content", ['{"RepetitionTime": "2.5"}', '{"RepetitionTime": -1}', "[]", "{", '{"RepetitionTime": true}']
)
def test_sidecars_that_say_nonsense(tmp_path: Path, content: str) -> None:
    (tmp_path / "scan.json").write_text(content)
    with pytest.raises(InputError, match=r"scan\.json"):
        repetition_time_s(tmp_path / "scan.nii.gz")


def test_fmriprep_masks_by_run_and_space(tmp_path: Path) -> None:
    stem = "sub-a_task-x_run-1_space-MNI"
    bold = tmp_path / f"{stem}_desc-preproc_bold.nii.gz"
    _touch(bold, tmp_path / "sub-a_task-x_run-1_space-T1w_desc-brain_mask.nii.gz")
    assert brain_mask_beside(bold) is None
    _touch(tmp_path / f"{stem}_desc-brain_mask.nii.gz")
    assert brain_mask_beside(bold) == tmp_path / f"{stem}_desc-brain_mask.nii.gz"
