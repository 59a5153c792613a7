"""The pages beside the files: what they tell people to type is what the commands take."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest

from tests.deploy.files import CONTAINER, DEPLOY, ROOT, parsed

PAGES = sorted(DEPLOY.glob("*/README.md"))

#: Commands at the start of a line, or what a container is to do.
_TYPED = re.compile(r"^(?:slcluster|(?:\$slc|podman run) .*?slcluster) (.+)$")


def lines(page: Path) -> list[str]:
    """What stands in fenced blocks, without comments."""
    blocks = re.findall(r"^```\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+# .*", "", line) for block in blocks for line in block.splitlines()]


def commands() -> list[tuple[str, str]]:
    """Page and words of every slcluster command that a page shows, in blocks and in sentences."""
    found = []
    for page in PAGES:
        typed = [match[1] for line in lines(page) if (match := _TYPED.match(line))]
        quoted = re.findall(r"`slcluster ([^`]+)`", page.read_text())
        found += [(page.parent.name, words) for words in (*typed, *quoted)]
    return found


def test_there_are_pages_of_every_kind() -> None:
    assert [page.parent.name for page in PAGES] == ["container", "gateway", "kubernetes", "systemd"]
    for page in PAGES:
        headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
        assert "What goes wrong" in headings
        assert "What is defended" in headings
        assert headings[-1] == "What was tried, and what was not"
    assert len(commands()) > 10


@pytest.mark.parametrize(("page", "words"), commands())
def test_commands_are_what_the_command_line_takes(page: str, words: str) -> None:
    role, *rest = shlex.split(words)
    if page == "container" and role in ("scheduler", "worker"):
        parsed_by_dask(role, rest)
        return
    with suppress(click.exceptions.Exit):  # --version has said what it has to
        parsed([role, *rest])


def parsed_by_dask(role: str, words: list[str]) -> None:
    from distributed.cli import dask_scheduler, dask_worker

    main = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}[role]
    (given,) = re.findall(
        rf"exec dask {role} (.*?)\"\$@\"", (CONTAINER / "entrypoint.sh").read_text(), re.DOTALL
    )
    main.make_context(role, [*shlex.split(given.replace("\\\n", " ")), *words])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_files_that_a_page_speaks_of_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"(?<![\w./])((?:deploy|tests)/[\w./@-]*[\w/])", text):
        assert (ROOT / path).exists(), path
    for row in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE):
        for name in re.findall(r"`([\w-]+\.(?:yaml|sh|py)|Containerfile)`", row):
            assert (page.parent / name).exists(), name
    ours = {path.name for path in page.parent.iterdir() if path.suffix not in (".pyc", "")} - {"README.md"}
    assert not [name for name in ours if name not in text], "files that the page does not name"


def test_certificates_made_as_the_pages_say_are_those_that_containers_look_for(tmp_path: Path) -> None:
    made = {line for page in PAGES for line in lines(page) if line.startswith("python -c")}
    (command,) = made  # the same everywhere
    subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=tmp_path, check=True)
    looked_for = set(re.findall(r'\$tls/([\w.]+)"', (CONTAINER / "entrypoint.sh").read_text()))
    assert looked_for == {path.name for path in (tmp_path / "tls").iterdir()}
