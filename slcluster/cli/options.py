"""Flags made from the models of the job file, so that both have the same names, checks and words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from slcluster.cluster.documents import parse_scalar, validated
from slcluster.jobs import Job, load_job

__all__ = ["Sectioned", "common", "flags_of", "given", "imports", "is_job", "job_of", "model_of"]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

#: Fields whose values are words: several may be given at once, with commas.
_WORDS = ("conditions", "runs", "scoring")


class _Flag(click.Option):
    """A flag that knows under which heading its help goes."""

    section = "Options"


class Sectioned(click.Command):
    """A command whose help has its flags under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        sections["Options"] = sections.pop("Options")  # the general ones last
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--quiet`` and ``--debug``."""
    command = click.option(
        "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
    )(command)
    return click.option(
        "--quiet",
        "-q",
        is_flag=True,
        expose_value=False,
        callback=_set_quiet,
        help="No progress, warnings alone.",
    )(command)


def imports(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--allow-import``, which is no key of a job file: what code may run is for the user to say."""
    return click.option(
        "--allow-import",
        multiple=True,
        metavar="PACKAGE",
        help="Let the job name classes of this package too, and import it; scikit-learn's alone where not given.",
    )(command)


def _set_quiet(ctx: click.Context, _: click.Parameter, quiet: bool) -> None:
    ctx.meta["progress"] = None if quiet else True
    logging.getLogger("slcluster").setLevel(logging.WARNING if quiet else logging.INFO)


def flags_of(model: type[BaseModel], section: str = "Options", *, without: tuple[str, ...] = ()) -> Decorator:
    """Add a flag for every field of a model.

    Parameters
    ----------
    model : pydantic model
    section : str
        Heading in the help of a :class:`Sectioned` command.
    without : tuple of str
        Fields that the command takes in another way.
    """
    flag = type("Flag", (_Flag,), {"section": section})
    fields = [(name, field) for name, field in model.model_fields.items() if name not in without]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, field in reversed(fields):
            command = _option(name, field, flag)(command)
        return command

    return decorate


def _option(name: str, field: FieldInfo, kind: type[click.Option]) -> Decorator:
    flag = f"--{name.replace('_', '-')}"
    kinds = _kinds(field.annotation)
    about = f"{field.description[:1].upper()}{field.description[1:]}" if field.description else ""
    about += "." if about and not about.endswith(".") else ""
    if not (field.is_required() or field.default is None or bool in kinds):
        about += f"  [default: {field.default}]"
    if bool in kinds:
        return click.option(f"{flag}/--no-{name.replace('_', '-')}", name, default=None, help=about, cls=kind)
    metavar = f"{_metavar(kinds)},..." if name in _WORDS else _metavar(kinds)
    return click.option(flag, name, multiple=list in kinds, metavar=metavar, help=about, cls=kind)


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation is made of."""
    origin = get_origin(annotation)
    if origin is None:
        return {annotation}
    if origin is Literal:
        return {str}
    parts = get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        parts = parts[:1]
    inner = set().union(*(_kinds(part) for part in parts))
    return inner | {list} if origin is list else inner


def _metavar(kinds: set[Any]) -> str:
    for kind, word in ((Path, "PATH"), (float, "NUMBER"), (int, "N")):
        if kind in kinds:
            return word
    return "TEXT"


def given(model: type[BaseModel], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given, as the model's raw values."""
    return {
        name: _raw(name, model.model_fields[name], value)
        for name, value in flags.items()
        if name in model.model_fields and value is not None and value != ()
    }


def _raw(name: str, field: FieldInfo, value: Any) -> Any:
    if isinstance(value, tuple):
        items = (
            [word.strip() for text in value for word in text.split(",")] if name in _WORDS else list(value)
        )
        value = items[0] if len(items) == 1 else items
    if isinstance(value, str):
        if value.lower() == "none":
            return None
        if _kinds(field.annotation) == {Any}:
            return parse_scalar(value)
    return value


def model_of(model: type[Any], flags: Mapping[str, Any]) -> Any:
    """An instance of a model from flags alone."""
    values = given(model, flags)
    return validated(model, values, flags=values)


def is_job(name: str) -> bool:
    """Whether a word names a job file rather than a store."""
    return name.lower().endswith((".yaml", ".yml", ".json"))


def job_of(inputs: tuple[str, ...], flags: Mapping[str, Any]) -> Job:
    """The job that a command line says: a job file or stores, and flags on top.

    Raises
    ------
    InputError
        Values that do not fit, with ``file:line`` or the flag's name.
    """
    values, packages = given(Job, flags), flags.get("allow_import", ())
    files = [name for name in inputs if is_job(name)]
    if files and len(inputs) > 1:
        raise click.UsageError(
            f"give one job file, or stores, not {' '.join(inputs)}", click.get_current_context()
        )
    if files:
        return load_job(files[0], allow_import=packages, **values)
    if not inputs:
        raise click.UsageError("name a subject store, several, or a job file", click.get_current_context())
    return validated(Job, {**values, "store": list(inputs)}, flags=values, context={"allow_import": packages})
