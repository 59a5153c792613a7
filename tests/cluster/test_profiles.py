"""Profiles: names, files, and what is asked for on top."""

from __future__ import annotations

from pathlib import Path

import pytest

from slcluster.cluster.kinds import Adapt, LocalProfile, PbsProfile, SlurmProfile
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
        ("kind: slurm\nwalltime: 10:00\n", r"profile.yaml:2: walltime: expected hours:minutes:seconds"),
        ("kind: slurm\nwalltime: '30'\n", r"profile.yaml:2: walltime: expected hours:minutes:seconds"),
        ("kind: slurm\nstart_timeout: soon\n", r"profile.yaml:2: start_timeout: expected a time"),
        ("kind: slurm\ncores: 3\nprocesses: 2\n", r"cores \(3\) must be a multiple of processes \(2\)"),
        ("kind: [slurm]\n", r"profile.yaml:1: kind must be one of local, slurm, .*, got \['slurm'\]"),
        ("kind: slurm\nstart_timeout: ''\n", r"profile.yaml:2: start_timeout: expected a time"),
        ("kind: slurm\nstart_timeout: 1e999s\n", r"profile.yaml:2: start_timeout: expected a time"),
        ("kind: slurm\nmemory: 1e999GB\n", r"profile.yaml:2: memory: expected a size"),
        ("kind: slurm\nmemory: '8'\n", r"profile.yaml:2: memory: expected a size such as \"2GB\", got '8'"),
        ("kind: slurm\nmemory: ''\n", r"profile.yaml:2: memory: expected a size"),
        (
            "kind: slurm\nlocal-directory: x\n",
            r"profile.yaml:2: unknown key .*did you mean 'local_directory'",
        ),
        ("kind: slurm\nenvironment: {ÜBER: 1}\n", "'ÜBER' is not the name of a variable"),
        ("kind: slurm\nextra: {scheduler_options: x}\n", "scheduler_options must be a mapping, got 'x'"),
        ("kind: slurm\nextra: {worker_extra_args: --x}\n", "worker_extra_args must be a list, got '--x'"),
        ("kind: local\nextra: {dashboard_address: ':8787'}\n", "dashboard_address ':8787' would show pages"),
        ("kind: local\nextra: {dashboard_address: 8787}\n", "dashboard_address 8787 would show pages"),
        (
            "kind: slurm\nextra: {scheduler_options: {dashboard_address: '0.0.0.0:1'}}\n",
            "dashboard_address '0.0.0.0:1' would show pages",
        ),
        ("kind: htcondor\nprologue: ['cd / # there']\n", "which a comment would end: 'cd / # there'"),
        ("kind: moab\n", r"profile.yaml:1: kind must be one of local, slurm, pbs, .*, gateway, got 'moab'"),
        ("workers: 2\n", r"profile.yaml: kind must be one of local, slurm, .*, got None"),
        ("kind: pbs\nworkers: 2\nadapt: {maximum: 4}\n", "workers is a fixed number, adapt a changing one"),
        (
            "kind: pbs\nadapt: {minimum: 5, maximum: 4}\n",
            r"profile.yaml:2: adapt: minimum \(5\) must not be above",
        ),
        ("kind: pbs\nadapt: {}\n", "adapt.maximum is missing"),
        ("kind: sge\ncores: 2\n", "name it with parallel_environment"),
        ("kind: sge\ncoordinator: {cores: 2}\n", "cores is 2, and Grid Engine books .*parallel_environment"),
        ("kind: htcondor\nqueue: long\n", "HTCondor has no queues"),
        ("kind: htcondor\ndirectives: [-x]\n", "directives of HTCondor are lines such as .*, got '-x'"),
        (
            "kind: pbs\nenvironment: {A B: 1}\n",
            "profile.yaml:2: environment: 'A B' is not the name of a variable",
        ),
        ("kind: kubernetes\n", "image is missing"),
        ("kind: kubernetes\nimage: a\nwalltime: 1-0\n", "profile.yaml:3: unknown key 'walltime'"),
    ],
)
def test_a_wrong_profile_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_profile(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_what_is_asked_for_is_checked() -> None:
    with pytest.raises(InputError, match="unknown cluster 'slrum'; expected local, slurm, .*, a profile"):
        load_profile("slrum")
    with pytest.raises(InputError, match="workers must be greater than 0, got 0"):
        load_profile("local", workers=0)
    with pytest.raises(InputError, match="memory: expected a size"):
        load_profile("slurm", memory="many")


def test_pages_on_loopback_where_one_likes(tmp_path: Path) -> None:
    extra = {"dashboard_address": "127.0.0.1:8787"}
    assert load_profile(written(tmp_path, f"kind: local\nextra: {extra}\n")).extra == extra


def test_paths_are_the_same_for_every_process_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    here = written(
        tmp_path,
        "kind: slurm\npython: env/bin/python\ncredentials_directory: keys\nlog_directory: ~/logs\n",
    )
    found = load_profile(here)
    assert isinstance(found, SlurmProfile)
    assert found.python == str(tmp_path / "env/bin/python")
    assert found.credentials_directory == str(tmp_path / "keys")
    assert found.log_directory == "/home/me/logs"
    for python, meant in (("~/env/bin/python", "/home/me/env/bin/python"), ("python3", "python3")):
        named = load_profile(written(tmp_path, f"kind: slurm\npython: {python}\n"))
        assert isinstance(named, SlurmProfile)
        assert named.python == meant


def test_workers_that_are_asked_for_are_a_fixed_number(tmp_path: Path) -> None:
    path = written(tmp_path, "kind: pbs\nadapt: {minimum: 3, maximum: 9}\nprocesses: 2\ncores: 2\n")
    changing, fixed = load_profile(path), load_profile(path, workers=5)
    assert isinstance(changing, PbsProfile)
    assert isinstance(fixed, PbsProfile)
    assert (changing.adapt, changing.n_jobs) == (Adapt(minimum=3, maximum=9), 2)
    assert (fixed.adapt, fixed.n_jobs) == (None, 3)


def test_numbers_are_variables_without_quotes(tmp_path: Path) -> None:
    path = written(tmp_path, "kind: local\nenvironment: {A: 1, B: 1.5, C: x}\n")
    assert load_profile(path).environment == {"A": "1", "B": "1.5", "C": "x"}


def test_addresses() -> None:
    assert is_address("tcp://node7:8786")
    assert is_address("tls://10.0.0.1:8786")
    assert not is_address("slurm.yaml")
