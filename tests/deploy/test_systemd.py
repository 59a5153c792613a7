"""The unit: by systemd's own check, and by what it starts."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from slcluster.cli import EXIT_INPUT, EXIT_INTERRUPTED
from tests.deploy.files import DEPLOY, SEARCH, command, parsed

UNIT = DEPLOY / "systemd" / "slcluster@.service"


@pytest.fixture
def unit() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=True)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(UNIT.read_text())
    return found


def started(unit: configparser.ConfigParser, home: Path, name: str) -> list[str]:
    """The command of an instance, with what systemd puts in."""
    return [
        word.replace("%h", str(home)).replace("%i", name)
        for word in shlex.split(unit["Service"]["ExecStart"])
    ]


def test_systemd_has_nothing_to_say(unit: configparser.ConfigParser, tmp_path: Path) -> None:
    analyze = command("systemd-analyze", "Debian's systemd")
    program = Path(started(unit, tmp_path, "lab")[0])
    program.parent.mkdir(parents=True)
    program.symlink_to(shutil.which("true", path=SEARCH) or "/bin/true")
    (tmp_path / "run").mkdir(mode=0o700)
    instance = tmp_path / "slcluster@lab.service"
    shutil.copy(UNIT, instance)
    env = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    told = subprocess.run(
        [analyze, "--user", "verify", instance], capture_output=True, text=True, check=False, env=env
    )
    assert (told.returncode, told.stderr) == (0, "")


def test_a_systemd_of_an_unprivileged_user_starts_it_closed_in() -> None:
    if os.geteuid() or not Path("/lib/systemd/systemd").exists():
        pytest.skip("starting the unit needs root, and Debian's systemd")
    told = subprocess.run(
        ["bash", Path(__file__).with_name("start_unit.sh")], capture_output=True, text=True, check=False
    )
    if told.returncode == 77:
        pytest.skip("starting the unit needs a machine that lets root mount")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "ActiveState=active" in told.stdout


def test_it_starts_what_the_command_line_has(unit: configparser.ConfigParser, tmp_path: Path) -> None:
    program, *words = started(unit, tmp_path, "lab")
    assert program == str(tmp_path / "slcluster" / ".venv" / "bin" / "slcluster")
    asked = parsed(words)
    assert asked["profile"] == str(tmp_path / ".config" / "slcluster" / "lab.yaml")
    assert (asked["name"], asked["foreground"]) == ("lab", True)


def test_it_knows_the_exit_codes(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert service["RestartPreventExitStatus"] == str(EXIT_INPUT)
    assert service["SuccessExitStatus"] == str(EXIT_INTERRUPTED)


def test_compiled_kernels_and_shared_folders_are_allowed(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert "MemoryDenyWriteExecute" not in service
    assert "PrivateTmp" not in service
    assert service["ReadWritePaths"].split() == ["%h", "/tmp"]
