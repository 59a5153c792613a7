"""The rows of the speed table: what is fitted, on which data, and how many times faster it is to be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ROWS", "Row", "chosen_rows"]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    name : str
        What ``--rows`` calls it.
    target : float
        nilearn's time over ours, at least; seconds, at most; or a share, at least: see ``unit``.
    kind : {"search", "set-up", "command-line", "workers", "cold"}
        How it is measured.
    estimator, radius_mm, standardize, n_folds
        As :func:`slcluster.plan` takes them, an estimator also by its class in scikit-learn; no folds leave one run out, else ``KFold``.
    data : str
        Key of ``subjects.STORES``.
    dtype : str
        Of the values both sides get. Unscaled integers reach estimators as float32. The closed forms are held
        to scikit-learn given float64, as scaled images arrive: in float32 it rounds otherwise.
    n_centers : int
        Centers that both sides compute, spread over the brain.
    n_in_blocks : int
        Centers that ours computes once more in whole blocks, as a plan has them.
    is_exact : bool
        Whether scores must be equal. nilearn's ``svc`` stops before its optimum, ours does not.
    judged : {"same", "blocks"}
        Which of our two times the target is for.
    n_processes : int
        That start at once.
    """

    name: str
    target: float
    kind: str = "search"
    estimator: str = "svc"
    radius_mm: float = 5.6
    standardize: str | None = None
    n_folds: int = 4
    data: str = "two"
    dtype: str | None = None
    n_centers: int = 1000
    n_in_blocks: int = 1_000_000
    is_exact: bool = False
    judged: str = "same"
    n_processes: int = 1

    @property
    def unit(self) -> str:
        return {"search": "x", "set-up": "x", "workers": "%"}.get(self.kind, "s")

    def is_reached(self, figure: float) -> bool:
        return figure <= self.target if self.unit == "s" else figure >= self.target

    @property
    def spec(self) -> dict[str, Any]:
        """For processes that measure."""
        return {key: asdict(self)[key] for key in ("estimator", "radius_mm", "standardize", "n_folds")}


_WIDE: dict[str, Any] = {"radius_mm": 12.0, "n_centers": 150, "n_in_blocks": 3000}
_EXACT: dict[str, Any] = {"dtype": "float64", "is_exact": True, "n_centers": 500}
#: ``"logistic"``, as nilearn names it, looks for its C, and runs on the scikit-learn engine.
_LOGISTIC = "sklearn.linear_model.LogisticRegression"

ROWS = (
    Row("svc-5.6-raw", 100),
    Row("svc-5.6-standardised", 100, standardize="run"),
    Row("svc-12-raw", 20, **_WIDE),
    Row("svc-12-standardised", 60, standardize="run", **_WIDE),
    # The shell within 5.2 mm: 15 voxels where the mask does not cut it.
    Row("svc-eight", 30, data="eight", radius_mm=5.2, n_folds=0, n_centers=50, n_in_blocks=600),
    Row("ridge_classifier-5.6", 100, estimator="ridge_classifier", **_EXACT),
    Row("lda-5.6", 100, estimator="lda", **_EXACT),
    Row("gnb-5.6", 500, estimator="gnb", judged="blocks", **_EXACT),
    Row("set-up-8", 60, kind="set-up", radius_mm=8.0, n_centers=1_000_000, is_exact=True),
    Row("command-line", 30, kind="command-line", n_processes=2),
    Row(
        "second-worker",
        95,
        kind="workers",
        radius_mm=12.0,
        standardize="run",
        n_centers=39_880,  # all: of three seconds, the end in which one worker waits for the other was a tenth
        n_processes=2,
    ),
    Row("cold-svc-5.6", 10, kind="cold"),
    Row("cold-svc-12", 10, kind="cold", radius_mm=12.0),
    Row("cold-ridge_classifier", 10, kind="cold", estimator="ridge_classifier"),
    Row("cold-lda", 10, kind="cold", estimator="lda"),
    Row("cold-gnb", 10, kind="cold", estimator="gnb"),
    Row("cold-logistic", 10, kind="cold", estimator=_LOGISTIC),
    Row("cold-logistic-eight", 10, kind="cold", estimator=_LOGISTIC, data="eight", n_folds=0),
    Row("cold-four-at-once", 10, kind="cold", n_processes=4),
)


def chosen_rows(words: list[str] | None) -> list[Row]:
    """Rows whose names begin with one of these words; all without words.

    Raises
    ------
    ValueError
        A word that no row begins with.
    """
    if not words:
        return list(ROWS)
    for word in words:
        if not any(row.name.startswith(word) for row in ROWS):
            raise ValueError(f"no row begins with {word!r}; rows: {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if row.name.startswith(tuple(words))]
