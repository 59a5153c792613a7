"""Where things of deploy/ lie, and how tests read them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from slcluster.cli import cli

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONTAINER = DEPLOY / "container"
KUBERNETES = DEPLOY / "kubernetes"

#: Commands of the environment that the tests run in come first, as in an activated one.
SEARCH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def command(name: str, package: str) -> str:
    """The path of a command; the test skips where the package that brings it is not installed."""
    return shutil.which(name, path=SEARCH) or pytest.skip(f"{name} is not installed; it comes with {package}")


def documents(text: str) -> list[dict[str, Any]]:
    """The YAML documents of a text, as kubectl reads them."""
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(kind: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The only document of a kind."""
    (match,) = (document for document in found if document["kind"] == kind)
    return match


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line makes of the words after ``slcluster``; a click exception where it knows them not."""
    command: click.Command = cli
    context = command.make_context("slcluster", list(words))
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, chosen, rest = command.resolve_command(context, rest)
        assert chosen is not None, f"no command {rest} in {name}"
        command = chosen
        context = command.make_context(name, rest, parent=context)
    return context.params
