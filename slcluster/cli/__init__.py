"""The command line: a thin shell over the functions of the package.

Commands live in modules of their own, which are imported when one is called: ``slcluster --help`` is quick.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

from slcluster import __version__
from slcluster.errors import InputError, SlclusterError

__all__ = ["main"]

#: Exit codes: bad input, failed work, stopped by the user.
EXIT_INPUT, EXIT_FAILED, EXIT_INTERRUPTED = 2, 1, 130

#: Command → its module here, and its line in the overview. In the order in which people meet them.
_COMMANDS = {
    "demo": ("demo", "Simulate a brain and analyse it from end to end."),
    "ingest": ("subject", "Turn NIfTI files, labels and a mask into a subject store."),
    "plan": ("analyse", "Say what a searchlight would do and cost."),
    "searchlight": ("analyse", "Map where conditions can be told apart."),
    "status": ("results", "Say how far a result is."),
    "resume": ("analyse", "Go on with an interrupted result."),
    "fscore": ("subject", "Map the one-way ANOVA F between conditions."),
    "export": ("results", "Write a result's maps as NIfTI with sidecars."),
    "plot": ("results", "Draw a result's map over the mean image."),
    "submit": ("submitting", "Leave a searchlight to a cluster and go."),
    "logs": ("submitting", "Show what the jobs of a submitted run print."),
    "cancel": ("submitting", "Call a submitted run off; it can be resumed."),
    "cluster": ("clusters", "Try a cluster, or keep one running under a name."),
}

#: Commands that our own job scripts call, and nobody else.
_INTERNAL = {"coordinate": ("submitting", "")}


class _Commands(click.Group):
    """Commands that load when called, and errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        known = {**_COMMANDS, **_INTERNAL}
        if name not in known:
            return None
        command: click.Command = getattr(import_module(f"slcluster.cli.{known[name][0]}"), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] not in {**_COMMANDS, **_INTERNAL} and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(_COMMANDS)}"
            raise click.UsageError(f"unknown command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # click takes every broken pipe for a reader of ours that has left, and ends without a word.
            if _reader_has_left():
                return EXIT_FAILED
            raise SlclusterError(str(error)) from error

    def main(self, args: Sequence[str] | None = None, *_: Any, **options: Any) -> NoReturn:
        given = list(sys.argv[1:] if args is None else args)
        options.update(standalone_mode=False, prog_name="slcluster")
        try:
            with _listening():
                code = super().main(given, **options)
        except Exception as error:
            code = _tell(error, "--debug" in given)
        sys.exit(code if isinstance(code, int) else 0)


@click.command(
    cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Searchlight decoding of fMRI, from one slice on a laptop to cohorts on a cluster.

    \b
    Examples:
      slcluster demo
      slcluster ingest bold.nii.gz sub-01.zarr --mask mask.nii.gz --labels labels.txt
      slcluster searchlight sub-01.zarr --conditions face,house --radius-mm 5.6 --out maps.zarr
      slcluster searchlight job.yaml --cluster slurm.yaml

    Every command has its own --help.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """Entry point of the ``slcluster`` command."""
    cli()
    raise AssertionError  # the group exits


def _tell(error: Exception, debug: bool) -> int:
    """Print what went wrong on one line of standard error; the exit code."""
    if debug and not isinstance(error, click.exceptions.Exit):
        traceback.print_exception(error)
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.Abort):
        notes = getattr(error.__cause__, "__notes__", [])
        _line("interrupted", *notes[-1:], joint="; ")
        return EXIT_INTERRUPTED
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        where = f"; see {context.command_path} --help" if context is not None else ""
        _line("error", f"{error.format_message().rstrip('.')}{where}")
        return EXIT_INPUT
    if isinstance(error, SlclusterError):
        _line("error", str(error))
        return EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILED
    if isinstance(error, OSError):
        _line("error", str(error))
    else:
        _line("error", f"unexpected {type(error).__name__}: {error}; --debug shows where")
    return EXIT_FAILED


def _reader_has_left() -> bool:
    """Whether nobody reads our output any more; then Python must not complain about it on exit either."""
    try:
        output = sys.stdout.fileno()
    except OSError:  # no file at all
        return False
    poll = select.poll()
    poll.register(output, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _line(*parts: str, joint: str = ": ") -> None:
    if "tqdm" in sys.modules:
        for bar in list(getattr(sys.modules["tqdm"].tqdm, "_instances", ())):
            bar.close()  # or it draws itself once more below the message
    click.echo(" ".join(f"slcluster: {joint.join(parts)}".split()), err=True)


@contextmanager
def _listening() -> Iterator[None]:
    """While a command works: a polite end of the process is a Ctrl-C, and warnings and logs are plain lines."""
    say = _Once()
    handler = _LogLines(say)
    log = logging.getLogger("slcluster")
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    log.addHandler(handler)
    propagate, log.propagate = log.propagate, False
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: say(f"slcluster: warning: {message}")
            yield
    finally:
        log.propagate = propagate
        log.removeHandler(handler)
        if before is not None:
            signal.signal(signal.SIGTERM, before)


class _Once:
    """Says a line that this command has not said yet: a plan is made before a cluster is, and again with it."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        text = " ".join(text.split())
        if text not in self._said:
            self._said.add(text)
            _write_line(text)


class _LogLines(logging.Handler):
    """Log records as lines."""

    def __init__(self, say: _Once) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        mark = "slcluster: warning: " if record.levelno >= logging.WARNING else ""
        self._say(mark + record.getMessage())


def _write_line(text: str) -> None:
    if "tqdm" in sys.modules and sys.stderr.isatty():
        sys.modules["tqdm"].tqdm.write(text, file=sys.stderr)  # above a bar, not into it
    else:
        click.echo(text, err=True)
