"""YAML files that people write, held against a pydantic model: every mistake is one line with file and line."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.composer import ComposerError

from slcluster.errors import InputError

__all__ = ["YamlDocument", "as_yaml", "parse_scalar", "read_yaml", "validated"]

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Plain scalars as YAML 1.2 reads them.

    PyYAML follows YAML 1.1, where ``1e-4`` is text, ``01:30:00`` is 5400 and a condition called ``no`` is false.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Aliases are refused: a few lines of aliases of aliases are more values than there is time to look at."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise ComposerError(None, None, "aliases are not read, write the value itself", mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first]
    )


class _Dumper(yaml.SafeDumper):
    """Puts quotes around what :class:`_Loader` would not read as text, such as ``12e4``, and makes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # 010 is ten


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


class YamlDocument:
    """A mapping read from a YAML file, which knows the line of each of its keys.

    Attributes
    ----------
    path : Path
    data : dict
        Plain values.
    """

    def __init__(self, path: Path, data: dict[str, Any], root: yaml.Node) -> None:
        self.path = path
        self.data = data
        self._root = root

    def line(self, location: Sequence[str | int] = ()) -> int:
        """Line (from 1) of what a location such as ``("cv", "params", "n_splits")`` leads to, as far as it goes."""
        node, mark = self._root, self._root.start_mark
        for part in location:
            found = _child(node, part)
            if found is not None:
                node, mark = found
        return mark.line + 1


def _child(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Mark] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark
    return None


def read_yaml(path: Path, what: str) -> YamlDocument:
    """Read a YAML file that holds one mapping.

    Parameters
    ----------
    path : Path
    what : str
        What the file is, for messages: ``"job file"``.

    Raises
    ------
    InputError
        Missing, not YAML, not a mapping, or with a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a {what}: it is not text") from None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        data = {} if root is None else loader.construct_document(root)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if root is None:
        raise InputError(f"{path} is empty; a {what} holds lines such as 'key: value'")
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{path}:{root.start_mark.line + 1}: a {what} holds lines such as 'key: value'")
    _refuse_twice(path, root)
    return YamlDocument(path, data, root)


def _refuse_twice(path: Path, node: yaml.Node) -> None:
    """YAML keeps the last of two equal keys without a word."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise InputError(
                    f"{path}:{line}: key {key.value!r} is already on line {seen[key.value]}; keep one"
                )
            seen[str(key.value)] = line
            _refuse_twice(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice(path, item)


def parse_scalar(text: str) -> Any:
    """A value as a YAML file would read it: ``"5"`` is 5, ``"{class: KFold}"`` a mapping.

    Raises
    ------
    InputError
        Not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{text!r} is not valid YAML: {getattr(error, 'problem', None) or error}") from None


def as_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as a file that :func:`read_yaml` reads the same values from.

    Examples
    --------
    >>> as_yaml({"subject": "12e4", "radius_mm": 8})
    "subject: '12e4'\\nradius_mm: 8\\n"
    """
    text: str = yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=False)
    return text


def validated(
    model: type[Model],
    data: Mapping[str, Any],
    *,
    document: YamlDocument | None = None,
    flags: Collection[str] | None = None,
    context: Mapping[str, Any] | None = None,
) -> Model:
    """An instance of the model, or one line about the first mistake.

    Parameters
    ----------
    model : pydantic model
    data : mapping
    document : YamlDocument, optional
        Where the data came from, for file and line.
    flags : collection of str, optional
        Keys that came from a command line, where ``radius_mm`` is ``--radius-mm``.
    context : mapping, optional
        For validators.

    Raises
    ------
    InputError
    """
    try:
        return model.model_validate(data, context=dict(context or {}))
    except ValidationError as error:
        problems = error.errors(include_url=False)
    if document is not None:
        # As people read their file; what is missing last, for a misspelt key explains it.
        problems.sort(key=lambda problem: (problem["type"] == "missing", document.line(problem["loc"])))
    first = problems[0]
    is_flag = flags is not None and (document is None or first["loc"][:1] in [(flag,) for flag in flags])
    text = _sentence(model, first, is_flag)
    more = len({problem["loc"][:1] for problem in problems}) - 1
    if more:
        text += f" (and {more} more)"
    if document is None or is_flag:
        raise InputError(text)
    where = (
        str(document.path) if first["type"] == "missing" else f"{document.path}:{document.line(first['loc'])}"
    )
    raise InputError(f"{where}: {text}")


_EXPECTED = {
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "list_type": "a list",
    "path_type": "a path",
}


def _sentence(model: type[BaseModel], problem: Any, is_flag: bool) -> str:
    """What pydantic found, in the words of the house."""
    # Where a value may be of several types, pydantic adds the type to the place.
    parts = [str(part) for part in problem["loc"] if not re.search(r"\W|^(str|list|int)$", str(part))]
    name = f"--{parts[0].replace('_', '-')}" if is_flag and parts else ".".join(parts)
    came, kind = problem["input"], problem["type"]
    if kind in ("extra_forbidden", "invalid_key"):
        from slcluster.estimators import nearest

        key = str(came if kind == "invalid_key" else problem["loc"][-1])
        return f"unknown key {key!r}: {nearest(key.replace('-', '_'), list(model.model_fields))}"
    if kind == "missing":
        field = model.model_fields.get(parts[0])
        return (
            f"{name} is missing: {field.description if field and field.description else 'it has no default'}"
        )
    if kind == "value_error":
        return f"{name}: {problem['ctx']['error']}" if name else str(problem["ctx"]["error"])
    if kind == "string_type":
        return f"{name} must be text, got the {_kind(came)} {came!r}; put quotes around it"
    expected = _EXPECTED.get(kind) or problem["msg"].removeprefix("Input should be ")
    return f"{name} must be {expected}, got {came!r}"


def _kind(value: Any) -> str:
    return {bool: "truth value", int: "number", float: "number", list: "list", dict: "mapping"}.get(
        type(value), "value"
    )
