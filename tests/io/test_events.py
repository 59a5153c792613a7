"""Tables of labels and events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from slcluster.errors import DesignError, InputError
from slcluster.io.events import conditions_of_events, read_labels


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


HAXBY = "labels chunks\nrest 0\nface 0\nhouse 1\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", HAXBY),
        ("labels.csv", HAXBY.replace(" ", ",")),
        ("labels.tsv", HAXBY.replace(" ", "\t").replace("labels", "trial_type").replace("chunks", "run")),
        ("windows.csv", "\ufeff" + HAXBY.replace(" ", ",").replace("\n", "\r\n")),
        ("quoted.csv", 'chunks,condition\n0,"rest"\n0,face\n1,house\n'),
    ],
)
def test_the_usual_tables(tmp_path: Path, name: str, text: str) -> None:
    columns = read_labels(_write(tmp_path / name, text), 3)
    assert columns["condition"].tolist() == ["rest", "face", "house"]
    assert columns["run"].tolist() == [0, 0, 1]
    assert columns["run"].dtype == np.int64
    assert set(columns) == {"condition", "run"}


def test_the_real_table(test_data: Path) -> None:
    path = test_data / "haxby2001" / "subj1" / "labels.txt"
    columns = read_labels(path, 1452)
    rows = [line.split() for line in path.read_text().splitlines()[1:]]
    assert columns["condition"].tolist() == [row[0] for row in rows]
    assert columns["run"].tolist() == [int(row[1]) for row in rows]


def test_named_columns_and_the_others(tmp_path: Path) -> None:
    text = "what,session,reaction time,note,labels\nNA,3,0.5,,x\n1,3,0.75,late,y\n"
    columns = read_labels(_write(tmp_path / "a.csv", text), 2, label_column="what", run_column="session")
    assert columns["condition"].tolist() == ["NA", "1"]
    assert columns["run"].tolist() == [3, 3]
    assert columns["reaction_time"].tolist() == [0.5, 0.75]
    assert columns["note"].tolist() == ["", "late"]
    assert columns["labels"].tolist() == ["x", "y"]


def test_a_table_in_memory() -> None:
    table = pd.DataFrame({"condition": pd.Categorical(["a", "b"]), "run": [1.0, 2.0], "beta": [True, False]})
    columns = read_labels(table, 2)
    assert columns["condition"].tolist() == ["a", "b"]
    assert columns["run"].tolist() == [1, 2]
    assert columns["beta"].dtype == bool


@pytest.mark.parametrize(
    ("text", "arguments", "error", "message"),
    [
        (HAXBY + "face 1\n", {}, DesignError, "has 4 rows for 3 volumes; expected one row a volume"),
        ("labels chunks\nrest 0\n", {}, DesignError, "has 1 rows for 3 volumes"),
        (HAXBY, {"label_column": "what"}, InputError, "no column 'what'.*it has labels, chunks"),
        (HAXBY, {"run_column": "runs"}, InputError, r"no column 'runs' \(run_column\)"),
        ("x y\n1 2\n3 4\n5 6\n", {}, InputError, "none of the columns labels, condition, trial_type; .*x, y"),
        ("labels,chunks\na,0\n,0\nb,1\n", {}, DesignError, "'labels' is empty in row 2"),
        ("labels,chunks\na,0\nb,one\nb,1\n", {}, DesignError, "whole numbers, row 2 has 'one'"),
        ("labels,chunks\na,0\nb,0.5\nb,1\n", {}, DesignError, "whole numbers, row 2 has '0.5'"),
        ("", {}, InputError, "cannot read .* as a table"),
        ("labels,chunks\na,0\nb,1,2,3\nc,1\n", {}, InputError, "cannot read .* as a table"),
    ],
)
def test_tables_that_do_not_fit(
    tmp_path: Path, text: str, arguments: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        read_labels(_write(tmp_path / "labels.txt", text), 3, **arguments)
    assert "labels.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_or_binary_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: .*none\.txt"):
        read_labels(tmp_path / "none.txt", 3)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00labels")
    with pytest.raises(InputError, match=r"cannot read .*binary\.txt"):
        read_labels(tmp_path / "binary.txt", 3)


def _events(rows: list[tuple[float, float, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])


def test_a_sample_belongs_from_the_onset_to_before_the_end() -> None:
    table = _events([(5.0, 5.0, "face"), (12.5, 2.5, "house")])
    conditions = conditions_of_events(table, 8, tr_s=2.5).tolist()
    assert conditions == ["rest", "rest", "face", "face", "rest", "house", "rest", "rest"]


def test_the_shift_looks_back() -> None:
    table = _events([(5.0, 5.0, "face")])
    assert conditions_of_events(table, 7, tr_s=2.5, shift_s=5.0).tolist() == [
        *["rest"] * 4,
        "face",
        "face",
        "rest",
    ]


def test_borders_survive_rounding() -> None:
    """10 * 0.72 is a hair under 7.2; the event that starts there holds sample 10 all the same."""
    table = _events([(7.2, 0.72, "a"), (7.92, 0.72, "b")])
    assert 10 * 0.72 < 7.2
    assert conditions_of_events(table, 13, tr_s=0.72).tolist()[9:] == ["rest", "a", "b", "rest"]


def test_other_columns_as_conditions() -> None:
    table = _events([(0.0, 2.0, "stimulus")]).assign(category="face")
    assert conditions_of_events(table, 2, tr_s=2.0, label_column="category").tolist() == ["face", "rest"]


def test_overlaps_are_refused() -> None:
    table = _events([(0.0, 6.0, "face"), (4.0, 4.0, "house")])
    with pytest.raises(DesignError, match=r"rows 1 \(face\) and 2 \(house\) overlap at sample 2 \(4 s\)"):
        conditions_of_events(table, 5, tr_s=2.0)
    # Where no sample lies in both, nothing is ambiguous.
    assert conditions_of_events(table, 3, tr_s=7.0).tolist() == ["face", "house", "rest"]


@pytest.mark.parametrize(
    "row", [(1.0, 0.0, "blink"), (0.5, 1.0, "blink"), (100.0, 4.0, "late"), (-9.0, 2.0, "soon")]
)
def test_events_that_no_sample_sees_are_announced(row: tuple[float, float, str]) -> None:
    with pytest.warns(UserWarning, match=rf"row 2 \({row[2]}, .*covers no sample"):
        conditions = conditions_of_events(_events([(2.0, 2.0, "face"), row]), 4, tr_s=2.0)
    assert conditions.tolist() == ["rest", "face", "rest", "rest"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onset\tduration\n0\t2\n", "none of the columns trial_type"),
        ("onset\ttrial_type\n0\ta\n", "no column 'duration'"),
        ("onset\tduration\ttrial_type\n0\tn/a\ta\n", "duration in row 1 is 'n/a', expected seconds"),
        ("onset\tduration\ttrial_type\n0\t2\ta\nsoon\t2\ta\n", "onset in row 2 is 'soon'"),
    ],
)
def test_events_without_what_they_need(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        conditions_of_events(_write(tmp_path / "run_events.tsv", text), 5, tr_s=2.0)
    assert "run_events.tsv" in str(caught.value)


def test_columns_that_would_take_each_others_place_are_refused() -> None:
    table = pd.DataFrame({"labels": ["face", "rest"], "chunks": [0, 1]})
    for more, words in [
        (
            {"condition": ["a", "b"]},
            "labels has the columns labels, condition; say which one to use as label_column",
        ),
        ({"run": [3, 4]}, "labels has the columns chunks, run; say which one to use as run_column"),
        ({"a b": [1, 2], "a_b": [3, 4]}, "labels has two columns that would be 'a_b' in the store"),
    ]:
        with pytest.raises(InputError, match=words):
            read_labels(table.assign(**more), 2)
    both = table.assign(condition=["a", "b"])
    with pytest.raises(InputError, match="two columns that would be 'condition'"):
        read_labels(both, 2, label_column="labels")
    with pytest.raises(InputError, match="labels has the columns labels; say which"):
        read_labels(pd.concat([table, table[["labels"]]], axis=1), 2)


def test_what_is_no_table_is_refused() -> None:
    for labels in (["face", "rest"], pd.Series(["face", "rest"])):
        with pytest.raises(InputError, match=r"labels must be a path or a DataFrame .* got (list|Series)"):
            read_labels(labels, 2)  # type: ignore[arg-type]


def test_times_stay_times() -> None:
    table = pd.DataFrame({"labels": ["face", "rest"], "at": pd.to_datetime(["2020-01-01", "2020-01-02"])})
    assert read_labels(table, 2)["at"].tolist() == ["2020-01-01 00:00:00", "2020-01-02 00:00:00"]


@pytest.mark.parametrize("sep", [" ", "\t", ","])
def test_a_column_that_is_there_twice_is_refused(sep: str, tmp_path: Path) -> None:
    """pandas calls the second one labels.1, and would keep it beside the first."""
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(sep.join(row) for row in (["labels", "labels"], ["face", "house"])))
    with pytest.raises(InputError, match="labels.txt has two columns 'labels'; rename or drop one"):
        read_labels(path, 1)
