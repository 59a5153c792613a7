"""Profiles: names, files, and what is asked for on top."""

from __future__ import annotations

from pathlib import Path

import pytest

from slcluster.cluster.kinds import LocalProfile, SlurmProfile
from slcluster.cluster.profiles import is_address, load_profile
from slcluster.errors import InputError


def written(folder: Path, text: str) -> Path:
    path = folder / "profile.yaml"
    path.write_text(text)
    return path


def test_names_are_profiles_with_defaults() -> None:
    assert load_profile("local") == LocalProfile()
    assert load_profile("slurm") == SlurmProfile()


def test_a_file_and_what_is_asked_of_each_worker(tmp_path: Path) -> None:
    path = written(
        tmp_path, "kind: slurm\ncores: 4\nprocesses: 4\nmemory: 8GB\nwalltime: 00:10:00\nqueue: short\n"
    )
    plain = load_profile(path)
    assert isinstance(plain, SlurmProfile)
    assert (plain.walltime, plain.queue, plain.n_jobs) == ("00:10:00", "short", 1)
    asked = load_profile(path, workers=9, threads=2, memory="3GB")
    assert isinstance(asked, SlurmProfile)
    # Nine workers of two threads and 3 GB, four to a job.
    assert (asked.n_jobs, asked.cores, asked.memory, asked.queue) == (3, 8, "12000000000B", "short")


def test_a_local_profile_takes_flags_as_they_are(tmp_path: Path) -> None:
    path = written(tmp_path, "kind: local\nworkers: 2\nmemory: 1GB\n")
    assert load_profile(path, threads=3) == LocalProfile(workers=2, memory="1GB", threads=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: slurm\nquee: x\n", r"profile.yaml:2: unknown key 'quee': did you mean 'queue'"),
        (
            "kind: local\n\nmemory: lots\n",
            r"profile.yaml:3: memory: expected a size such as \"2GB\", got 'lots'",
        ),
        ("kind: slurm\nwalltime: 2 hours\n", r"profile.yaml:2: walltime: expected hours:minutes:seconds"),
        ("kind: slurm\nstart_timeout: soon\n", r"profile.yaml:2: start_timeout: expected a time"),
        ("kind: slurm\ncores: 3\nprocesses: 2\n", r"cores \(3\) must be a multiple of processes \(2\)"),
        ("kind: pbs\n", r"profile.yaml:1: kind must be one of local, slurm, got 'pbs'"),
        ("workers: 2\n", r"profile.yaml: kind must be one of local, slurm, got None"),
    ],
)
def test_a_wrong_profile_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_profile(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_what_is_asked_for_is_checked() -> None:
    with pytest.raises(InputError, match="unknown cluster 'slrum'; expected local, slurm, a profile"):
        load_profile("slrum")
    with pytest.raises(InputError, match="workers must be greater than 0, got 0"):
        load_profile("local", workers=0)
    with pytest.raises(InputError, match="memory: expected a size"):
        load_profile("slurm", memory="many")


def test_addresses() -> None:
    assert is_address("tcp://node7:8786")
    assert is_address("tls://10.0.0.1:8786")
    assert not is_address("slurm.yaml")
