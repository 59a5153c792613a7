"""What a store is made of, byte by byte where it matters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import slcluster as slc
from slcluster.errors import InputError, StoreError
from slcluster.store.writer import storable_columns, subject_writer
from tests.conftest import OBLIQUE
from tests.files import SHAPE, full_mask, numbers, write_nifti


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writer")
    bold = write_nifti(folder / "bold.nii.gz", numbers(), scale=(0.5, -1.0))
    slc.ingest(bold, folder / "s.zarr", mask=full_mask())
    return folder / "s.zarr"


def _metadata(store: Path, name: str) -> dict:
    return dict(json.loads((store / name / "zarr.json").read_text()))


def test_bold_is_bricks_in_shards_with_checksums(store: Path) -> None:
    bold = _metadata(store, "bold")
    assert bold["dimension_names"] == ["x", "y", "z", "sample"]
    assert bold["chunk_grid"]["configuration"]["chunk_shape"] == [7, 16, 5, 30]
    (sharding,) = bold["codecs"]
    assert sharding["name"] == "sharding_indexed"
    assert sharding["configuration"]["chunk_shape"] == [7, 8, 5, 30]
    codecs = {codec["name"]: codec.get("configuration") for codec in sharding["configuration"]["codecs"]}
    assert list(codecs) == ["bytes", "blosc", "crc32c"]
    assert (codecs["blosc"]["cname"], codecs["blosc"]["clevel"]) == ("zstd", 1)
    assert (codecs["blosc"]["shuffle"], codecs["blosc"]["typesize"]) == ("bitshuffle", 2)
    assert [codec["name"] for codec in sharding["configuration"]["index_codecs"]] == ["bytes", "crc32c"]
    assert {k: v for k, v in bold["attributes"].items() if k != "long_name"} == {
        "scale_factor": 0.5,
        "add_offset": -1.0,
    }


def test_every_other_array_is_checked_too(store: Path) -> None:
    dtypes = {
        "mask": "bool",
        "mean": "float32",
        "nonfinite": "bool",
        "x": "int64",
        "y": "int64",
        "z": "int64",
        "affine": "float64",
        "condition": "string",
        "run": "int64",
        "sample_index": "int64",
    }
    assert {path.parent.name for path in store.glob("*/zarr.json")} == {"bold", *dtypes}
    for name, dtype in dtypes.items():
        metadata = _metadata(store, name)
        assert metadata["data_type"] == dtype
        assert metadata["codecs"][-1]["name"] == "crc32c"


def test_metadata_are_consolidated(store: Path) -> None:
    root = json.loads((store / "zarr.json").read_text())
    inside = root["consolidated_metadata"]["metadata"]
    assert set(inside) == {path.parent.name for path in store.glob("*/zarr.json")}
    assert inside["bold"]["attributes"] == _metadata(store, "bold")["attributes"]


@pytest.mark.parametrize(
    "name", ["bold", "x", "sample_index", "a/b", ".hidden", "__init__", "", "two words", "affine_row"]
)
def test_names_that_no_column_can_have(name: str) -> None:
    with pytest.raises(InputError, match=r"a column of the labels is called .* rename or drop it"):
        storable_columns({name: np.arange(3)})


def test_columns_are_numbers_truths_or_text() -> None:
    given = {
        "i": np.arange(2, dtype="u1"),
        "f": np.ones(2, "f4"),
        "b": [True, False],
        "t": ["a", 1],
        "n": [None, "x"],
    }
    kept = storable_columns(given)
    assert [kept[name].dtype.kind for name in "ifbtn"] == ["i", "f", "b", "O", "O"]
    with pytest.raises(InputError, match=r"column 'when' holds datetime64\[.*\]"):
        storable_columns({"when": np.array(["2024-01-01"], "M8[s]")})


def test_a_shard_that_vanished_is_noticed_before_publishing(tmp_path: Path) -> None:
    shape = (*SHAPE[:3], 4)
    volumes = {"mask": full_mask(), "mean": np.zeros(SHAPE[:3], "f4"), "nonfinite": ~full_mask()}
    columns = {"condition": np.array(["a"] * 4, object), "run": np.zeros(4, int)}

    with subject_writer(tmp_path / "s.zarr", shape=shape, dtype="i2", shard=(*SHAPE[:3], 2)) as writer:
        for n in range(2):
            writer.write((0, 0, 0, n), numbers()[..., :2])
        next(tmp_path.glob("s.zarr.*.partial/bold/c/0/0/0/0")).unlink()
        with pytest.raises(StoreError, match=r"shard \(0, 0, 0, 0\) of .* is gone.*ingest again"):
            writer.finish(volumes=volumes, affine=OBLIQUE, columns=columns, attrs={"subject": "x"})
    assert list(tmp_path.iterdir()) == []
