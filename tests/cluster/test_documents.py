"""YAML files and their mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PositiveInt

from slcluster.cluster.documents import as_yaml, parse_scalar, read_yaml, validated
from slcluster.errors import InputError


class Toy(BaseModel):
    model_config = ConfigDict(extra="forbid")

    radius_mm: float
    names: list[str] = []
    count: PositiveInt = 1
    nested: dict[str, int] = {}


def written(folder: Path, text: str) -> Path:
    path = folder / "toy.yaml"
    path.write_text(text)
    return path


def test_plain_scalars_are_what_they_look_like(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "tol: 1e-4\nwalltime: 01:30:00\nanswers: [yes, no, on, off]\ntruth: true\nnothing: null\nempty:\n"
        "ten: 010\ndate: 2026-01-02\nminus: -3\nhalf: .5\nquoted: '5'\nhex: 0x10\nlimit: -.inf\n",
    )
    assert read_yaml(path, "toy").data == {
        "tol": 1e-4,
        "walltime": "01:30:00",
        "answers": ["yes", "no", "on", "off"],
        "truth": True,
        "nothing": None,
        "empty": None,
        "ten": 10,
        "date": "2026-01-02",
        "minus": -3,
        "half": 0.5,
        "quoted": "5",
        "hex": "0x10",
        "limit": float("-inf"),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("svc", "svc"),
        ("{class: KFold, params: {n_splits: 4}}", {"class": "KFold", "params": {"n_splits": 4}}),
    ],
)
def test_a_scalar_of_the_command_line_reads_as_in_a_file(text: str, value: object) -> None:
    assert parse_scalar(text) == value


@given(
    st.text()
    | st.from_regex(r"[-+]?\.?[0-9_:x]{0,3}\.?[eE]?[-+]?[0-9]{0,2}", fullmatch=True)
    | st.floats(allow_nan=False)
)
def test_what_is_written_is_read_again(value: object) -> None:
    assert parse_scalar(as_yaml({"a": value})) == {"a": value}


def test_half_a_mapping_on_the_command_line() -> None:
    with pytest.raises(InputError, match=r"^'\{class: KFold' is not valid YAML"):
        parse_scalar("{class: KFold")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("radius_mm: 3\nradus: 4\n", r"toy.yaml:2: unknown key 'radus': did you mean 'radius_mm'"),
        ("radius_mm: abc\n", r"toy.yaml:1: radius_mm must be a number, got 'abc'"),
        ("# only\nradius_mm: 1\n\ncount: 0\n", r"toy.yaml:4: count must be greater than 0, got 0"),
        ("radius_mm: 1\ncount: 1.5\n", r"toy.yaml:2: count must be a whole number, got 1.5"),
        (
            "radius_mm: 1\nnames:\n  - face\n  - true\n",
            r"toy.yaml:4: names.1 must be text, got the truth value True",
        ),
        ("radius_mm: 1\nnested:\n  a: 1\n  b: x\n", r"toy.yaml:4: nested.b must be a whole number, got 'x'"),
        ("count: 2\n", r"toy.yaml: radius_mm is missing"),
        ("count: x\nradus: 1\n", r"toy.yaml:1: count must be .* \(and 2 more\)"),
        ("radius-mm: 3\n", r"toy.yaml:1: unknown key 'radius-mm': did you mean 'radius_mm'"),
        ("radius_mm: 1\nnested.a: 3\n", r"toy.yaml:2: unknown key 'nested.a'"),
        ("radius_mm: 1\n2: x\n", r"toy.yaml:2: unknown key '2'"),
        ("radius_mm: 1\n<<: {count: 2}\n", r"toy.yaml:2: unknown key '<<'"),
    ],
)
def test_a_wrong_value_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    document = read_yaml(written(tmp_path, text), "toy")
    with pytest.raises(InputError, match=message) as caught:
        validated(Toy, document.data, document=document)
    assert "\n" not in str(caught.value)


def test_a_flag_is_called_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--radius-mm must be a number, got 'x'$"):
        validated(Toy, {"radius_mm": "x"}, flags=["radius_mm"])
    document = read_yaml(written(tmp_path, "count: 2\n"), "toy")
    with pytest.raises(InputError, match=r"^--radius-mm must be a number, got 'x'$"):
        validated(Toy, {**document.data, "radius_mm": "x"}, document=document, flags=["radius_mm"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1, 2\n", r"toy.yaml:3: not valid YAML"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", r"toy.yaml:4: key 'c' is already on line 3"),
        ("- a\n- b\n", r"toy.yaml:1: a toy holds lines such as"),
        ("", r"toy.yaml is empty"),
        (
            "a: &a [1]\nb: [*a, *a]\n",
            r"toy.yaml:2: not valid YAML: aliases are not read, write the value itself",
        ),
        ("a: &a {b: *a}\n", r"toy.yaml:1: not valid YAML: aliases are not read"),
        (f"a: {'[' * 5000}", r"toy.yaml: not valid YAML"),
        (f"a: {'9' * 5000}", r"toy.yaml: not valid YAML"),
        ("x: !!python/object/apply:os.getcwd []\n", r"toy.yaml:1: not valid YAML"),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_yaml(written(tmp_path, text), "toy")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read toy .*nope.yaml: No such file"):
        read_yaml(tmp_path / "nope.yaml", "toy")
    (tmp_path / "binary.yaml").write_bytes(b"\x1f\x8b\xff\x00")
    with pytest.raises(InputError, match="it is not text"):
        read_yaml(tmp_path / "binary.yaml", "toy")
