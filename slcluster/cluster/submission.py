"""What can be known of batch jobs before they run, and while they should: dask-jobqueue keeps it to itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata

from slcluster.cluster.kinds import BatchProfile
from slcluster.cluster.queues import ANSWER_S, queue_of
from slcluster.cluster.systems import SYSTEMS
from slcluster.errors import InputError, SlclusterError

__all__ = ["check_python", "check_submission"]

#: Imports what computes a block, so that a part that is missing shows here.
_IMPORTS = "import distributed, slcluster.compute, importlib.metadata as m; print(m.version('slcluster'))"


#: What a front end says when what is behind it does not speak: no word on the job.
_NO_ANSWER = r"(?i)timed out|unable to contact|connect failure|connection refused"


def check_python(profile: BatchProfile) -> None:
    """Make sure that the profile's interpreter has this slcluster, as far as that can be seen from here.

    Workers that cannot import it end with their job at the first task, and so does every job after it.

    Raises
    ------
    InputError
        The interpreter is here, and is not one, or lacks slcluster or a part of it, or has another version.
    """
    python = profile.python
    # A prologue may be what makes the interpreter work, on the nodes alone.
    if python is None or python == sys.executable or profile.prologue or not os.path.exists(python):
        return
    try:
        answer = subprocess.run(
            [python, "-c", _IMPORTS],
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise InputError(f"python: {python} is not an interpreter: {error.strerror}") from None
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise InputError(
            f"python: {python} cannot compute: {reason}; install slcluster there, "
            "or leave python out to use this interpreter"
        )
    ours, theirs = metadata.version("slcluster"), answer.stdout.strip()
    if theirs != ours:
        raise InputError(f"python: {python} has slcluster {theirs}, this process {ours}; install the same")


def check_submission(kind: str, script: str) -> None:
    """Ask the batch system, where it answers such questions, whether it would take a job.

    Raises
    ------
    InputError
        There is no such system here, or it would not.
    SlclusterError
        It does not answer.
    """
    system, title = SYSTEMS[kind], queue_of(kind).title
    submit = shutil.which(system.submit)
    if submit is None:
        raise InputError(
            f"{system.submit} is not on the PATH; start this on a machine that submits to {title}, "
            "or look with --dry-run"
        )
    if not system.has_test:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        try:
            answer = subprocess.run(
                [submit, "--test-only", file.name],
                capture_output=True,
                text=True,
                check=False,
                timeout=ANSWER_S,
            )
        except subprocess.TimeoutExpired:
            raise SlclusterError(f"{title} does not answer within {ANSWER_S:g} s; try again later") from None
    reason = " ".join(answer.stderr.split())
    if answer.returncode and re.search(_NO_ANSWER, reason):
        raise SlclusterError(f"{title} does not answer: {reason}; try again later")
    if answer.returncode:
        raise InputError(f"{title} refuses the job: {reason}; see the script with --dry-run")
