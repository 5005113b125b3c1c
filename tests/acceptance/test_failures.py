"""What goes wrong under a search: each is tried again, stopped or recorded, with its reason."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
ONCE = """
import os, signal, time
from pathlib import Path
from runpy import run_path

whole = run_path({path!r})["train"]
here = Path(__file__).parent

def first(what):
    '''Whether nobody has had this trouble before.'''
    try:
        (here / what).mkdir()
    except FileExistsError:
        return False
    return True

"""
"""How a module begins whose trial has each of its troubles once."""
TROUBLE = (
    ONCE
    + """\
def train(run):
    for number, one in enumerate(whole(run)):
        yield one
        if run.gamma != 0.5 and number == 24:
            print("nothing that belongs on standard output")
            if first("fork") and os.fork() == 0:
                continue  # the child comes back as if it were the trial
            if first("exit"):
                os._exit(3)
            if first("memory"):
                raise MemoryError("no room")
            if first("hang"):
                time.sleep(600)
            if first("stop"):
                os.kill(os.getpid(), 19)
"""
)


def reasons(cli: Cli, folder: Path) -> list[str]:
    """Why attempts ended before their trials, as ``critical show`` says."""
    shown = json.loads(cli("show", "default", "--json", cwd=folder).stdout)
    return [attempt["reason"] for attempt in shown["attempts"]]


@pytest.mark.ray
def test_trouble_in_workers_is_survived_and_told(
    cli: Cli, tmp_path: Path, analytic: str, check_nothing_lost: Callable[..., None]
) -> None:
    """A fork, a death, no memory, a trial that hangs and a worker that is stopped."""
    (tmp_path / "own.py").write_text(TROUBLE.format(path=analytic.rpartition(":")[0]))
    done = cli(
        "search", "--budget", "16trials", "--trainable", "own.py:train", "--widths", "32,64",
        "--workers", "2", "--sampler", "random", "--patience", "1.5", "--backoff", "0.1", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trials"]["completed"] == 16
    assert "Traceback" not in done.stderr
    told = sorted(reasons(cli, tmp_path))
    assert told[:2] == ["MemoryError: no room (own.py, line 27)", "its worker process died"]
    hung = r"no measurement for [\d.]+ s \(own.py, line 29 in train\)"
    assert re.fullmatch(hung, told[2]), told
    assert re.fullmatch(r"no measurement for \d+ s, and it did not answer", told[3]), told
    assert len(told) == 4
    check_nothing_lost(f"sqlite:///{tmp_path}/critical.db", "default", completed=16)


PACK = (
    ONCE
    + """\
def train(run):
    yield from whole(run)

def train_pack(runs):
    (here / f"pack-{{len(runs)}}-{{time.time_ns()}}").mkdir()
    curves = [whole(run) for run in runs]
    left = frozenset()
    for number in range(48):
        found = [None if n in left else next(curve) for n, curve in enumerate(curves)]
        left |= yield found
        if number == 24 and first("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 30 and first("raised"):
            raise ValueError("once")

train.train_pack = train_pack
"""
)


@pytest.mark.ray
def test_the_members_of_a_pack_are_settled_each_when_its_worker_is_killed(
    cli: Cli, tmp_path: Path, analytic: str, check_nothing_lost: Callable[..., None]
) -> None:
    """Packs of two under Ray: both go on alone after a SIGKILL, both fail of an exception."""
    (tmp_path / "own.py").write_text(PACK.format(path=analytic.rpartition(":")[0]))
    done = cli(
        "search", "--budget", "16trials", "--trainable", "own.py:train", "--widths", "32",
        "--lr", "1e-3,2e-3,4e-3", "--workers", "1", "--pack", "2", "--sampler", "random",
        "--backoff", "0.1", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trials"]["completed"] == 16
    assert "Traceback" not in done.stderr
    assert {path.name[:6] for path in tmp_path.glob("pack-*")} == {"pack-2"}
    assert reasons(cli, tmp_path) == ["its worker process died"] * 2
    failed = [
        trial["reason"]
        for trial in json.loads(cli("trials", "default", "--json", cwd=tmp_path).stdout)
        if trial["state"] == "failed"
    ]
    assert failed == ["ValueError: once (own.py, line 30)"] * 2
    check_nothing_lost(f"sqlite:///{tmp_path}/critical.db", "default", completed=16)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_said_and_the_search_goes_on_once_there_is_room(
    cli: Cli, small_disk: Path, analytic: str, check_nothing_lost: Callable[..., None]
) -> None:
    """One sentence; what had been stored stays, and nothing is half-written."""
    search = (
        "search", "--budget", "24trials", "--trainable", analytic, "--widths", "32",
        "--workers", "0", "--sampler", "random",
    )  # fmt: skip
    done = cli(*search, cwd=small_disk)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(r"critical: the disk of .*critical.db is full: make room", done.stderr)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert cli(*search, cwd=small_disk).returncode == 0
    check_nothing_lost(f"sqlite:///{small_disk}/critical.db", "default", completed=24)


def test_a_work_directory_that_cannot_be_written_is_said_first(
    cli: Cli, tmp_path: Path, analytic: str
) -> None:
    """Status 2, before anything is stored."""
    (tmp_path / "file").write_text("")
    done = cli(
        "search", "--budget", "24trials", "--trainable", analytic, "--work-dir", "file",
        "--workers", "0",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(r"critical: work directory .* cannot be written \(.*\): .*--work-dir", line)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


REAL = (
    "search", "--budget", "6trials", "--widths", "16", "--tokens", "60000", "--lr", "4e-3",
    "--mixture", "reasoning=0.7,memory=0.3", "--sampler", "random", "--study", "real",
)  # fmt: skip


def curves(cli: Cli, folder: Path) -> dict[tuple[float, int], list[tuple[object, ...]]]:
    """Every trial's curve, without its seconds, by γ and seed."""
    from critical.storage.store import Store

    with Store.open(f"sqlite:///{folder}/critical.db") as store:
        study = store.study("real")
        return {
            (trial.gamma, trial.seed): [
                (one.tokens, one.loss, one.reasoning, dict(one.extras))
                for one in store.trial_measurements(trial.id)
            ]
            for trial in store.trials(study.id)
        }


@pytest.mark.ray
def test_ctrl_c_saves_what_runs_and_the_same_command_goes_on_to_the_same_bits(
    cli: Cli, tmp_path: Path, check_nothing_lost: Callable[..., None]
) -> None:
    """Real training: the interrupted trial ends as if nothing had happened."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    assert cli(*REAL, "--workers", "0", cwd=whole).returncode == 0
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CRITICAL_", "RAY_"))}
    with subprocess.Popen(
        [sys.executable, "-m", "critical", *REAL, "--workers", "1"],
        cwd=broken,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as search:
        _wait_for_a_measurement(broken, search)
        os.killpg(search.pid, signal.SIGINT)  # as a terminal does, to Ray's processes too
        _, said = search.communicate(timeout=60)
    assert search.returncode == 1
    assert said.splitlines()[-1] == (
        "critical: interrupted: all is stored, and the same command goes on"
    )
    assert "Traceback" not in said
    (waiting,) = [t for t in _trials(cli, broken) if t["state"] == "interrupted"]
    saved = broken / "critical-work/studies/real" / f"trial-{waiting['number']}"
    assert (saved / "checkpoint.safetensors").is_file()
    assert cli(*REAL, "--workers", "0", cwd=broken).returncode == 0
    check_nothing_lost(f"sqlite:///{broken}/critical.db", "real", completed=6)
    ended = next(t for t in _trials(cli, broken) if t["number"] == waiting["number"])
    assert ended["attempts"] == 2
    assert curves(cli, broken) == curves(cli, whole)


def _trials(cli: Cli, folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(cli("trials", "real", "--json", cwd=folder).stdout)
    return found


def _wait_for_a_measurement(folder: Path, search: subprocess.Popen[str]) -> None:
    """Wait until a trial is under way."""
    import sqlite3

    for _ in range(600):
        assert search.poll() is None
        time.sleep(0.1)
        try:
            with sqlite3.connect(f"file:{folder}/critical.db?mode=ro", uri=True) as store:
                if store.execute("SELECT count(*) FROM critical_measurement").fetchone()[0] > 12:
                    return
        except sqlite3.OperationalError:
            continue
    raise AssertionError("no trial was ever measured")
