"""The job file: an analysis written down in YAML, with the names that the functions and the flags have.

The models here say everything once: the command line makes its flags, their help and their checks from the
same fields, and ``deploy/job.schema.json`` is exported from them for editors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticKnownError

from slcluster.cluster.documents import YamlDocument, read_yaml, validated
from slcluster.cluster.profiles import Size, is_address
from slcluster.errors import InputError
from slcluster.jobs.objects import build_object
from slcluster.jobs.paths import refuse_outside, usable_path, usable_subject

__all__ = [
    "AnalysisOptions",
    "ClusterOptions",
    "IngestOptions",
    "Job",
    "SelectOptions",
    "build_object",
    "load_job",
]

T = TypeVar("T")

#: Where splitters are that are named without a module.
_SPLITTERS = "sklearn.model_selection"


def _from_here(path: Any, info: ValidationInfo) -> Any:
    """A relative path of a job file starts at the file, so that a job can be submitted from anywhere."""
    if not isinstance(path, str | Path):
        return path
    base = (info.context or {}).get("base")
    path = usable_path(Path(path)).expanduser()
    return path if base is None or path.is_absolute() else base / path


def _listed(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple) else [value]


def _columns(value: Any) -> Any:
    """Values of columns: a mapping, or what a flag says, ``task=seen,imagined``, once or for several columns."""
    if isinstance(value, str | list):
        pairs = [str(item).partition("=") for item in _listed(value)]
        if not all(name and equals and values for name, equals, values in pairs):
            raise ValueError("must be COLUMN=VALUE, or COLUMN=VALUE,VALUE")
        value = {name.strip(): values.split(",") for name, _, values in pairs}
    if isinstance(value, Mapping):
        return {name: [str(item).strip() for item in _listed(items)] for name, items in value.items()}
    return value


def _three(value: Any) -> Any:
    """``"2,2,1"``, as a flag says it, to a list."""
    return value.split(",") if isinstance(value, str) and "," in value else value


def _cluster_from_here(cluster: str, info: ValidationInfo) -> str:
    return str(_from_here(cluster, info)) if _is_profile_file(cluster) else cluster


def _is_profile_file(cluster: str) -> bool:
    return not is_address(cluster) and cluster.endswith((".yaml", ".yml"))


def _packages(context: Any) -> tuple[str, ...]:
    """Packages that the command line let a job name classes of."""
    return tuple((context or {}).get("allow_import", ()))


def _known_estimator(value: Any, info: ValidationInfo) -> Any:
    from slcluster.estimators import Measure, resolve

    if isinstance(value, str):
        resolve(value)
    elif not (
        hasattr(made := build_object(value, packages=_packages(info.context)), "fit")
        or isinstance(made, Measure)
    ):
        raise InputError(f"{value['class']} is not an estimator: it has no fit method")
    return value


def _known_splitter(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        if value != "leave-one-run-out":
            raise InputError(
                f"expected leave-one-run-out, a number of folds or a class such as {{class: KFold}}, got {value!r}"
            )
        return value
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if not hasattr(build_object(value, _SPLITTERS, _packages(info.context)), "split"):
        raise InputError(f"{value['class']} is not a splitter: it has no split method")
    return value


def _known_scorers(value: Any) -> Any:
    if value is not None:
        from slcluster.estimators import make_scorer, resolve, split_tables

        make_scorer(split_tables(value)[0], resolve("svc"))
    return value


_OBJECT_SCHEMA = {
    "type": "object",
    "properties": {"class": {"type": "string"}, "params": {"type": "object"}},
    "required": ["class"],
    "additionalProperties": False,
}
FilePath = Annotated[Path, BeforeValidator(_from_here)]
Subject = Annotated[str, AfterValidator(usable_subject)]
FilePaths = Annotated[list[FilePath], BeforeValidator(_listed)]
Columns = Annotated[dict[str, list[str]], BeforeValidator(_columns)]
EstimatorSpec = Annotated[
    Any,
    AfterValidator(_known_estimator),
    WithJsonSchema({"anyOf": [{"type": "string"}, _OBJECT_SCHEMA]}),
]
SplitterSpec = Annotated[
    Any,
    AfterValidator(_known_splitter),
    WithJsonSchema(
        {"anyOf": [{"const": "leave-one-run-out"}, {"type": "integer"}, _OBJECT_SCHEMA, {"type": "null"}]}
    ),
]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def _chosen(self, model: type[BaseModel]) -> dict[str, Any]:
        """The values of one part, by keyword."""
        return {name: getattr(self, name) for name in model.model_fields}


class IngestOptions(_Options):
    """Files to a subject store: what :func:`slcluster.ingest` takes."""

    bold: FilePaths | None = Field(
        default=None, description="4D NIfTI, several runs or 3D volumes, or a BIDS folder"
    )
    mask: FilePath | None = Field(
        default=None,
        description="mask image on the same grid; without it, fMRIPrep's brain mask is looked for beside bold",
    )
    labels: FilePath | None = Field(
        default=None, description="table with one row a volume: labels and chunks, or named columns"
    )
    events: FilePaths | None = Field(default=None, description="BIDS events table of each run")
    label_column: str | None = Field(default=None, description="column of labels, where its name is another")
    run_column: str | None = Field(default=None, description="column of runs, where its name is another")
    tr: PositiveFloat | None = Field(
        default=None, description="repetition time in seconds, where the header lacks it"
    )
    shift_s: float = Field(default=0.0, description="haemodynamic delay in seconds, for events")
    subject: Subject | None = Field(default=None, description="name in results; else from the file's name")
    memory_budget: Size = Field(
        default="512MB", description="peak memory of the whole process while it ingests"
    )

    def ingest_arguments(self) -> dict[str, Any]:
        """Keyword arguments of :func:`slcluster.ingest` but for ``store``."""
        values = self._chosen(IngestOptions)
        for name in ("bold", "events"):
            if values[name] is not None and len(values[name]) == 1:
                values[name] = values[name][0]
        return values


class SelectOptions(_Options):
    """Which samples of a store: what :func:`slcluster.select` takes."""

    conditions: Annotated[list[str], BeforeValidator(_listed)] | None = Field(
        default=None, description="conditions to analyse; all where not given"
    )
    runs: Annotated[list[int], BeforeValidator(_listed)] | None = Field(
        default=None, description="runs to analyse; all where not given"
    )

    def select_arguments(self) -> dict[str, Any]:
        """Keyword arguments of :func:`slcluster.select`."""
        return self._chosen(SelectOptions)


class AnalysisOptions(_Options):
    """The searchlight itself: what :func:`slcluster.plan` takes."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["radius_mm"]}, {"required": ["n_voxels"]}]}
    )

    n_voxels: PositiveInt | None = Field(
        default=None, description="voxels in a sphere, the nearest; with a radius at most so many"
    )
    radius_mm: float | None = Field(
        default=None, validate_default=True, description="radius of the spheres in mm; or give n_voxels"
    )
    estimator: EstimatorSpec = Field(
        default="svc",
        description="name such as svc, logistic or ridge_classifier; or {class: sklearn.svm.SVC, params: {C: 0.5}}",
    )
    cv: SplitterSpec = Field(
        default=None,
        description="folds: leave-one-run-out, as where not given (but of split_half); their number; or {class: KFold, params: {n_splits: 4}}",
    )
    groups: str | None = Field(
        default="run", description="column whose values stay together in folds; none for no groups"
    )
    target: str = Field(default="condition", description="column to predict")
    train_on: Columns | None = Field(
        default=None, description="train on samples with these values of a column alone: COLUMN=VALUE,..."
    )
    test_on: Columns | None = Field(
        default=None, description="test on samples with these values of a column alone: COLUMN=VALUE,..."
    )
    sample_weight: str | None = Field(
        default=None, description="column that says how much each sample counts in a fit"
    )
    scoring: Annotated[str | list[str] | None, AfterValidator(_known_scorers)] = Field(
        default="accuracy",
        description="metric by its scikit-learn name, or several; hit_rate and confusion for tables of classes; none for the estimator's own",
    )
    process_mask: FilePath | None = Field(
        default=None, description="image of the voxels to be centers; all of the mask else"
    )
    center_spacing: Annotated[
        PositiveInt | tuple[PositiveInt, PositiveInt, PositiveInt], BeforeValidator(_three)
    ] = Field(
        default=1, description="only every n-th voxel along each axis is a center; or three numbers: 2,2,1"
    )
    standardize: Literal["run", "fold"] | None = Field(
        default=None,
        description="z-score voxels: run, within each run; fold, by the training samples of each fold; or none",
    )
    detrend: bool = Field(
        default=False, description="remove the line through each run before samples are chosen"
    )
    nonfinite: Literal["error", "zero", "exclude"] = Field(
        default="error", description="what to do with NaN in the mask: error, zero or exclude"
    )
    min_voxels: PositiveInt = Field(default=1, description="spheres with fewer voxels get no score")
    engine: str = Field(
        default="auto", description="code path: auto takes a fast one where it gives the same; sklearn"
    )
    block_centers: PositiveInt | None = Field(
        default=None, description="centers in a block; chosen by cost where not given"
    )
    memory_limit: Size | None = Field(
        default=None, description="memory a worker may use; --memory where not given"
    )

    #: Not a field: a job must not allow itself what the user did not.
    _allowed: tuple[str, ...] = PrivateAttr(default=())

    def model_post_init(self, context: Any) -> None:
        self._allowed = _packages(context)

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that the user let this job name classes of."""
        return self._allowed

    @field_validator("radius_mm")
    @classmethod
    def _some_size(cls, radius_mm: float | None, info: ValidationInfo) -> float | None:
        """Spheres need a size of one kind. A bad ``n_voxels`` has been told already."""
        if radius_mm is None and info.data.get("n_voxels", 0) is None:
            raise PydanticKnownError("missing")
        return radius_mm

    def plan_arguments(self) -> dict[str, Any]:
        """Keyword arguments of :func:`slcluster.plan`, estimator and splitter made."""
        values = self._chosen(AnalysisOptions)
        if isinstance(self.estimator, Mapping):
            values["estimator"] = build_object(self.estimator, packages=self._allowed)
        if isinstance(self.cv, Mapping):
            values["cv"] = build_object(self.cv, _SPLITTERS, self._allowed)
        elif isinstance(self.cv, str):
            values["cv"] = build_object({"class": "LeaveOneGroupOut"}, _SPLITTERS)
        return values


class ClusterOptions(_Options):
    """Where to compute: what :func:`slcluster.cluster.connect` takes."""

    cluster: Annotated[str, AfterValidator(_cluster_from_here)] = Field(
        default="local",
        description="where to compute: local, slurm, a profile such as slurm.yaml, the name of a cluster that stays, or tls://host:port of a scheduler",
    )
    workers: PositiveInt | None = Field(
        default=None, description="worker processes in all; locally, one a core"
    )
    threads: PositiveInt | None = Field(default=None, description="threads of each worker; 1 where not given")
    memory: Size | None = Field(default=None, description="memory of each worker, such as 2GB")
    credentials: FilePath | None = Field(
        default=None, description="folder with the certificates of a scheduler at tls://host:port"
    )

    def connect_arguments(self) -> dict[str, Any]:
        """Keyword arguments of :func:`slcluster.cluster.connect`."""
        return self._chosen(ClusterOptions)

    def profile_arguments(self) -> dict[str, Any]:
        """Those that make a profile, ``cluster`` first; credentials are of clusters that run already."""
        return {name: value for name, value in self.connect_arguments().items() if name != "credentials"}


class OutputOptions(_Options):
    """Where results go."""

    out: FilePath | None = Field(
        default=None, description="result store; for several subjects the folder of theirs"
    )
    export: FilePath | None = Field(default=None, description="folder for NIfTI maps, figures and sidecars")


class Job(ClusterOptions, OutputOptions, AnalysisOptions, SelectOptions, IngestOptions):
    """One analysis of one subject, or the same of several. Names are those of the functions and the flags.

    Examples
    --------
    >>> job = Job(store="sub-01.zarr", radius_mm=5.6, cv={"class": "KFold", "params": {"n_splits": 4}})
    >>> job.plan_arguments()["cv"]
    KFold(n_splits=4, random_state=None, shuffle=False)
    """

    store: FilePaths = Field(description="subject store, or several; written first where bold is given")

    def plan_arguments(self) -> dict[str, Any]:
        """Keyword arguments of :func:`slcluster.plan`; workers of known memory bound the plan's."""
        return {**super().plan_arguments(), "memory_limit": self.memory_limit or self.memory}


def load_job(
    path: str | Path, *, allow_import: Sequence[str] = (), is_checked: bool = False, **changes: Any
) -> Job:
    """Read and check a job file.

    Parameters
    ----------
    path : path
        YAML. Relative paths in it start at its folder, and what it says to write lies in that folder.
    allow_import : sequence of str
        Packages, besides scikit-learn, whose classes the file may name. They are imported: it is for the user to
        say so, and no key of the file.
    is_checked : bool
        The file is the copy that was made of a checked job when it was submitted, which lies elsewhere.
    **changes
        Keys to take from here instead. Relative paths start at the current folder; they may lead anywhere.

    Returns
    -------
    Job

    Raises
    ------
    InputError
        One line with file and line: not YAML, an unknown key (the nearest are offered), a value that does not
        fit, a class from outside scikit-learn, a place outside the file's folder to write to.
    """
    document = read_yaml(Path(path).expanduser().absolute(), "job file")
    if isinstance(cluster := changes.get("cluster"), str) and _is_profile_file(cluster):
        changes["cluster"] = str(Path(cluster).expanduser().absolute())
    for name in ("bold", "mask", "labels", "events", "process_mask", "store", "out", "export", "credentials"):
        if changes.get(name) is not None:
            given = changes[name]
            changes[name] = (
                [Path(p).absolute() for p in given]
                if isinstance(given, list | tuple)
                else Path(given).absolute()
            )
    job: Job = validated(
        Job,
        {**document.data, **changes},
        document=document,
        flags=frozenset(changes),
        context={"base": document.path.parent, "allow_import": allow_import},
    )
    if not is_checked:
        _refuse_writing_outside(job, document, frozenset(changes))
    return job


def _refuse_writing_outside(job: Job, document: YamlDocument, flags: frozenset[str]) -> None:
    """A job file may come from anybody: what it says to write stays beside it. The user may say otherwise."""
    written: dict[str, list[Path | None]] = {
        "out": [job.out],
        "export": [job.export],
        "store": [*job.store] if job.bold else [],
    }
    remedy = {"store": "write it first: slcluster ingest"}
    for name, paths in written.items():
        for path in paths if name not in flags else []:
            if path is None or (name == "store" and path.exists()):
                continue
            try:
                fix = remedy.get(name, f"if you mean it, say so on the command line: --{name} {path}")
                refuse_outside(path, document.path.parent, fix=fix)
            except InputError as error:
                raise InputError(f"{document.path}:{document.line([name])}: {name}: {error}") from None
