"""The command line as a user has it: a search, what is asked of it afterwards, and Ray."""

from __future__ import annotations

import csv
import io
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from critical.cli.application import _status

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
KEYS = {
    "study", "rule", "gamma", "share", "target", "per_scale", "reference", "gain", "budget",
    "trials",
}  # fmt: skip
NAME = "llama-d512-L8"


@dataclass(frozen=True)
class Searched:
    """A folder in which a search has been run, and what it printed."""

    folder: Path
    document: dict[str, Any]
    err: str


@pytest.fixture(scope="session")
def searched(
    tmp_path_factory: pytest.TempPathFactory, cli: Cli, analytic: str, llama_config: Path
) -> Searched:
    """A search of 34 trials at two widths for a target, with --json."""
    folder = tmp_path_factory.mktemp("searched")
    done = cli(
        "search", "--budget", "34trials", "--target", llama_config, "--trainable", analytic,
        "--widths", "32,64", "--workers", "0", "--sampler", "random", "--json",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Searched(folder, json.loads(done.stdout), done.stderr)


@pytest.fixture
def ask(
    searched: Searched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command beside the finished search, in process, and return its standard output."""
    monkeypatch.chdir(searched.folder)
    monkeypatch.delenv("CRITICAL_STORAGE", raising=False)

    def command(*arguments: str | Path) -> str:
        status = _status([str(each) for each in arguments])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return command


def test_a_search_prints_its_recommendation(searched: Searched) -> None:
    """One JSON document on standard output; plan and progress on standard error."""
    document = searched.document
    assert document.keys() >= KEYS
    assert document["study"] == NAME
    assert document["state"] == "finished"
    assert document["target"] == {"width": 512, "depth": 8, "model_type": "llama"}
    assert [scale["width"] for scale in document["per_scale"]] == [32, 64]
    assert all(
        scale.keys() >= {"width", "median", "low", "high", "trials"}
        for scale in document["per_scale"]
    )
    assert 0.3 <= document["gamma"]["low"] <= document["gamma"]["high"] <= 1.2
    assert document["gain"].keys() >= {"reasoning", "efficiency"}
    assert document["budget"] == {"unit": "trials", "total": 34, "spent": 34}
    assert document["trials"].keys() >= {"completed", "stopped", "diverged", "failed"}
    assert document["reference"]["gamma"] == pytest.approx(0.627, abs=1e-3)
    assert f"Plan of {NAME}, 34trials" in searched.err
    assert "34trials of 34trials" in searched.err
    assert sorted(path.name for path in searched.folder.iterdir()) == ["critical.db"]


def test_the_store_answers_what_was_asked(
    searched: Searched, ask: Callable[..., str], llama_config: Path
) -> None:
    """Studies, show, trials and recommend say the same of one search."""
    document = searched.document
    (listed,) = json.loads(ask("studies", "--json"))
    assert (listed["study"], listed["state"]) == (NAME, "finished")
    assert listed["gamma"]["median"] == document["gamma"]["median"]
    assert listed["budget"] == document["budget"]

    shown = json.loads(ask("show", NAME, "--json"))
    assert shown["recommendation"] == document
    assert shown["ledger"]["spent_seconds"] > 0
    assert shown["reasons"] == {}
    assert shown["attempts"] == []

    rows = list(csv.DictReader(io.StringIO(ask("trials", NAME, "--csv"))))
    assert [int(row["number"]) for row in rows] == list(range(34))
    assert {row["state"] for row in rows} == {"completed"}
    assert json.loads(ask("trials", NAME, "--json"))[5]["gamma"] == float(rows[5]["gamma"])

    again = json.loads(ask("recommend", NAME, "--target", llama_config, "--json"))
    assert again == document
    assert f"γ* {document['gamma']['median']:.3f} at width 512" in ask("recommend", NAME)


def test_the_recommendation_goes_into_a_configuration(
    searched: Searched, ask: Callable[..., str], llama_config: Path, tmp_path: Path
) -> None:
    """Printed, as a diff, into another file or in place: the std alone changes."""
    before = llama_config.read_text()
    config = tmp_path / "config.json"
    config.write_text(before)
    export = ("export", NAME, "--to", "hf", "--config", config)

    edited = ask(*export)
    std = json.loads(edited)["initializer_range"]
    assert std == pytest.approx(512 ** -searched.document["gamma"]["median"])
    assert json.loads(edited) == {**json.loads(before), "initializer_range": std}

    lines = ask(*export, "--diff").splitlines()
    changed = [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert [line.split(":")[0].strip() for line in changed] == [
        '-  "initializer_range"',
        '+  "initializer_range"',
    ]
    output = tmp_path / "new.json"
    report = json.loads(ask(*export, "--output", output, "--json"))
    assert output.read_text() == edited == report["edited"]
    assert report["study"] == NAME
    assert config.read_text() == before

    assert ask(*export, "--in-place") == ""
    assert config.read_text() == edited
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "new.json"]


def test_the_report_is_one_file(ask: Callable[..., str], tmp_path: Path) -> None:
    """It holds the search's name, and --json says where it is."""
    path = tmp_path / "report.html"
    document = json.loads(ask("report", NAME, "--output", path, "--json"))
    assert document == {"study": NAME, "report": str(path), "bytes": path.stat().st_size}
    assert NAME in path.read_text()


def test_the_same_command_again_runs_nothing(
    searched: Searched, ask: Callable[..., str], analytic: str, llama_config: Path
) -> None:
    """A finished search prints its recommendation once more."""
    document = json.loads(
        ask(
            "search",
            "--budget",
            "34trials",
            "--target",
            llama_config,
            "--trainable",
            analytic,
            "--widths",
            "32,64",
            "--workers",
            "0",
            "--json",
        )
    )
    assert document["trials"] == searched.document["trials"]
    assert document["gamma"]["median"] == pytest.approx(
        searched.document["gamma"]["median"], abs=0.02
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("search", "--budget", "64"), "has no unit: write 64gpu-h"),
        (("recommend", "nope"), "there is no store at"),
    ],
)
def test_a_mistake_is_one_sentence(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """From a shell as in process: status 2, one line, nothing written."""
    done = cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("critical: ")
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_is_one_sentence_too(cli: Cli, tmp_path: Path) -> None:
    """Status 1 and no traceback, though what it died of looks like markup."""
    (tmp_path / "own.py").write_text("def train(run):\n    raise ValueError('[/x]')\n    yield\n")
    done = cli(
        "search", "--budget", "20trials", "--trainable", "own.py:train", "--workers", "0",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "critical: 3 trials in a row have failed, the last with ValueError: [/x] (own.py, line 2)"
    )


def test_help_comes_at_once() -> None:
    """In under 0.6 s of CPU, the best of three, and without anything heavy imported."""
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "critical", "--help"], check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.6
    program = (
        "import sys; from critical.cli.application import _status; _status(['--help']); "
        "print([n for n in ('torch', 'ray', 'optuna', 'sqlalchemy', 'scipy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


LOUD = """
print("imported")
from pathlib import Path
from runpy import run_path
whole = run_path({path!r})["train"]
def train(run):
    print("started", flush=True)
    for number, measurement in enumerate(whole(run)):
        if number % 2:
            yield measurement
    print("ended")
"""


@pytest.mark.ray
def test_through_ray_nothing_but_the_document_is_printed(
    cli: Cli, tmp_path: Path, analytic: str
) -> None:
    """Two workers run the whole budget; whatever they and Ray print stays off standard output."""
    (tmp_path / "loud.py").write_text(LOUD.format(path=analytic.rpartition(":")[0]))
    done = cli(
        "search", "--budget", "30trials", "--trainable", "loud.py:train", "--widths", "32,64",
        "--workers", "2", "--sampler", "random", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document.keys() >= KEYS
    assert document["trials"] == {
        "completed": 30, "stopped": 0, "diverged": 0, "failed": 0, "running": 0,
        "interrupted": 0,
    }  # fmt: skip
    assert "Traceback" not in done.stderr
    rows = json.loads(cli("trials", "default", "--json", cwd=tmp_path).stdout)
    roles = [row["role"] for row in rows]
    assert len(rows) == 30
    last_search = max(n for n, role in enumerate(roles) if role == "search")
    assert all(role == "confirmation" for role in roles[last_search + 1 :])
    assert all(row["device_seconds"] > 0 for row in rows)
