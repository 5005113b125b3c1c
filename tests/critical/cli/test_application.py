"""The command line in process: every mistake is one sentence and a status, and writes nothing."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from critical.cli.application import _status
from critical.environment import environment
from critical.running.leasing import holding, this_process
from critical.running.search import Search
from critical.storage.records import StudyState, TrialState
from critical.storage.store import Store

Run = Callable[..., "Result"]
SEARCH = ("search", "--workers", "0", "--budget")


class Result:
    """What a command left behind."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def sentence(self) -> str:
        """The last line on standard error."""
        return self.err.splitlines()[-1]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in an empty folder, as ``main`` does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CRITICAL_STORAGE", raising=False)

    def command(*arguments: str | Path) -> Result:
        status = _status([str(each) for each in arguments])
        printed = capsys.readouterr()
        return Result(status, printed.out, printed.err)

    return command


@pytest.fixture
def trial(tmp_path: Path) -> Callable[[str], str]:
    """Write a trial of the user's own, with this body, and return how it is named."""

    def write(body: str) -> str:
        (tmp_path / "own.py").write_text(
            "from critical.trials import Measurement\n"
            "def train(run):\n" + "".join(f"    {line}\n" for line in body.splitlines())
        )
        return "own.py:train"

    return write


def refused(result: Result, words: str) -> None:
    """Exit status 2, one sentence on standard error that has these words, and nothing else."""
    assert result.status == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1, result.err
    assert result.err.startswith("critical: ")
    assert words in result.err


WITH = ("--budget", "20trials")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search"], "no budget was given: write --budget 64gpu-h"),
        (["search", "--budget", "64"], "budget '64' has no unit: write 64gpu-h"),
        (["search", "--budget", "64tpu-h"], "unknown unit 'tpu-h'"),
        (["search", "--budget", "0trials"], "leaves nothing to spend"),
        (["search", "--budget", "1e999trials"], "leaves nothing to spend"),
        (["search", *WITH, "--interval", "0.3"], "write two γ at least 0.1 apart"),
        (["search", *WITH, "--interval", "a,b"], "'a,b' is not a list of numbers"),
        (["search", *WITH, "--widths", "33"], "write multiples of 8"),
        (["search", *WITH, "--rule", "best"], "rule 'best'"),
        (["search", *WITH, "--rule", "floor=lots"], "floor=lots"),
        (["search", *WITH, "--sampler", "cma"], "--sampler 'cma' is not allowed"),
        (["search", *WITH, "--seed", "x"], "--seed"),
        (["search", *WITH, "--study", "a/b"], "--study 'a/b' is not allowed"),
        (["search", *WITH, "--nope"], "No such option: --nope"),
        (["search", *WITH, "--target", "no.json"], "no.json does not exist"),
        (["search", *WITH, "--mixture", "nonsense"], "mixture source 'nonsense'"),
        (["search", *WITH, "--mixture", "reasoning=lots"], "fraction 'lots' of reasoning"),
        (["search", *WITH, "--mixture", "memory=1"], "has no task that reasons"),
        (["search", *WITH, "--corpus", "no.txt"], "corpus no.txt does not exist"),
        (["search", *WITH, "--config", "no.toml"], "no.toml cannot be read"),
        (["search", *WITH, "--trainable", "own.py"], "'own.py' names no function"),
        (["search", *WITH, "--trainable", "no.py:train"], "no.py does not exist"),
        (["search", *WITH, "--trainable", "no_such_module:train"], "no module 'no_such_module'"),
        (["serve"], "No such command 'serve'"),
        ([], "no command was given"),
        (["show"], "Missing argument"),
        (["studies"], "there is no store at"),
        (["show", "s"], "there is no store at"),
        (["trials", "s", "--csv", "--json"], "--csv and --json exclude each other"),
        (["studies", "--storage", "critical.db"], "write sqlite:///critical.db"),
        (["studies", "--storage", "mysql://h/d"], "of a kind that is not supported"),
        (["export", "s"], "Missing option"),
        (["export", "s", "--to", "keras", "--config", "c.json"], "framework 'keras' is not known"),
        (["export", "s", "--to", "hf", "--config", "c.json"], "c.json does not exist"),
        (["report", "s", "--output", "no/folder/r.html"], "cannot be written there"),
        (["dashboard", "--port", "99999999"], "--port"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    run: Run, tmp_path: Path, arguments: list[str], words: str
) -> None:
    """It says what is wrong, exits with 2, and leaves the folder as it was."""
    result = run(*arguments)
    if not arguments:
        result.out = ""  # the help
    refused(result, words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_gpu_hours_without_a_gpu_are_refused(run: Run) -> None:
    """The sentence says which budget would do."""
    refused(run("search", "--budget", "64gpu-h"), "needs a GPU and none was found: write --budget")


def test_a_budget_under_the_minimum_names_it(run: Run, tmp_path: Path, analytic: str) -> None:
    """Neither a store nor anything else is left behind."""
    refused(run(*SEARCH, "17trials", "--trainable", analytic), "write --budget 18trials")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON at line 1"),
        ("[]", "holds a list: write a JSON object"),
        ('{"a": 1, "a": 2}', "gives the key 'a' twice"),
        ('{"model_type": "llama"}', "hidden_size"),
        ("", "is empty: write the path of a"),
    ],
)
def test_a_malformed_model_is_refused(run: Run, tmp_path: Path, text: str, words: str) -> None:
    """By search, recommend and export alike, before the store is looked for."""
    config = tmp_path / "config.json"
    config.write_text(text)
    refused(run("search", *WITH, "--target", config), words)
    refused(run("recommend", "s", "--target", config), words)
    refused(run("export", "s", "--to", "hf", "--config", config), words)
    assert list(tmp_path.iterdir()) == [config]


def test_a_wrong_corpus_is_refused(run: Run, tmp_path: Path) -> None:
    """Empty, binary, or a folder without text."""
    empty, binary, folder = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c"
    empty.touch()
    binary.write_bytes(bytes(range(256)) * 1000)
    folder.mkdir()
    refused(run("search", *WITH, "--corpus", empty), "holds 0 bytes of text: give at least")
    refused(run("search", *WITH, "--corpus", binary), "is not text (UTF-8)")
    refused(run("search", *WITH, "--corpus", folder), "holds 0 bytes of text")
    assert sorted(tmp_path.iterdir()) == [empty, binary, folder]


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("train = 3\n", "train", "'train' in"),
        ("x = 3\n", "train", "has no 'train'"),
        ("1 / 0\n", "train", "failed with ZeroDivisionError: division by zero"),
        ("import no_such_thing\n", "train", "failed with ModuleNotFoundError"),
        ("def train(:\n", "train", "failed with SyntaxError"),
        ("raise SystemExit(3)\n", "train", "failed with SystemExit"),
    ],
)
def test_a_trainable_that_cannot_be_loaded_is_refused(
    run: Run, tmp_path: Path, text: str, name: str, words: str
) -> None:
    """Before anything is stored."""
    (tmp_path / "broken.py").write_text(text)
    refused(run(*SEARCH, "20trials", "--trainable", f"broken.py:{name}"), words)
    assert not (tmp_path / "critical.db").exists()


def test_a_wrong_configuration_file_is_refused(run: Run, tmp_path: Path) -> None:
    """An unknown key is named."""
    (tmp_path / "critical.toml").write_text('budget = "20trials"\ncolor = 1\n')
    refused(run("search", "--config", "critical.toml"), "'color' is no option of search")


def test_a_store_in_a_folder_that_is_not_there_is_refused(run: Run, analytic: str) -> None:
    """The sentence says which folder to create."""
    arguments = ("--trainable", analytic, "--storage", "sqlite:///no/critical.db")
    refused(run(*SEARCH, "20trials", *arguments), "is in a folder that does not exist: create")


@pytest.mark.parametrize("command", ["show", "trials", "recommend", "report", "export"])
def test_a_study_that_is_not_there_is_named_beside_those_that_are(
    run: Run, tmp_path: Path, finished: Search, llama_config: Path, command: str
) -> None:
    """By every command that takes one."""
    more = ("--to", "hf", "--config", llama_config) if command == "export" else ()
    storage = finished.history.store.url
    refused(run(command, "nope", "--storage", storage, *more), "no study 'nope' in")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [("--in-place", "--diff"), ("--output", "x", "--in-place")])
def test_one_export_goes_to_one_place(run: Run, llama_config: Path, flags: tuple[str, ...]) -> None:
    """The three flags exclude each other."""
    result = run("export", "s", "--to", "hf", "--config", llama_config, *flags)
    refused(result, "--output, --in-place and --diff exclude each other")


def test_a_dry_run_starts_and_stores_nothing(
    run: Run, tmp_path: Path, trial: Callable[[str], str]
) -> None:
    """It prints the plan, in the unit of the budget."""
    own = trial("raise AssertionError('started')")
    shown = run(*SEARCH, "60trials", "--trainable", own, "--dry-run")
    assert shown.status == 0
    assert "Plan of default, 60trials" in shown.out
    document = json.loads(run(*SEARCH, "10cpu-min", "--trainable", own, "--dry-run", "--json").out)
    assert document["study"] == "default"
    assert document["budget"] == {"unit": "cpu-min", "total": 10}
    assert [arm["scale"]["width"] for arm in document["plan"]["arms"]] == [32, 64, 128]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["own.py"]


def test_a_dry_run_leaves_nothing_of_the_built_in_trials_corpus(run: Run, tmp_path: Path) -> None:
    """It plans with the text that is there, and adds none to it."""
    arguments = (*SEARCH, "6trials", "--widths", "32", "--tokens", "20000", "--dry-run", "--corpus")
    text = tmp_path / "text.txt"
    text.write_text("A line of text to be read.\n" * 400)
    assert run(*arguments, text).status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
    kept = tmp_path / "critical-work" / "corpora" / "corpus-0.bin"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"kept")
    assert run(*arguments, text).status == 0
    assert [path.read_bytes() for path in kept.parent.iterdir()] == [b"kept"]


def test_an_empty_mixture_is_refused(run: Run) -> None:
    """It is not taken for the default."""
    refused(run("search", "--mixture", "", *WITH), "mixture '' names no source: write reasoning=")


RISING = "for n in range(1, 31):\n    yield Measurement({tokens}, 3.0 / n, {reasoning})"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('[/red] oops')\nyield", "KeyError: '[/red] oops' (own.py, line 3)"),
        ("return None", "returned a NoneType: it must be a generator"),
        ("for _ in range(30):\n    yield 3", "yielded a int: yield critical.trials.Measurement"),
        (RISING.format(tokens="100 - n", reasoning="0.5"), "they must be whole and grow"),
        (RISING.format(tokens="n", reasoning="2"), "reasoning is 2: R lies between 0 and 1"),
        ("yield Measurement(1, 2.0, 0.5)", "yielded 1 measurements: yield at least 20"),
        ("import sys\nsys.exit(0)\nyield", "ended its process (SystemExit: 0)"),
    ],
)
def test_a_trial_that_fails_ends_with_status_one(
    run: Run, tmp_path: Path, trial: Callable[[str], str], body: str, words: str
) -> None:
    """The last sentence says what it died of; the study says so too, and so does show."""
    result = run(*SEARCH, "20trials", "--trainable", trial(body), "--json")
    assert result.status == 1
    assert result.out == ""
    assert result.sentence.startswith("critical: 3 trials in a row have failed, the last with ")
    assert words in result.sentence
    assert "Traceback" not in result.err
    with Store.open(f"sqlite:///{tmp_path}/critical.db", create=False) as store:
        study = store.study("default")
        assert study.state is StudyState.FAILED
        assert study.reason is not None
        assert words in study.reason
        assert [t.state for t in store.trials(study.id)] == [TrialState.FAILED] * 3
    shown = run("show", "default")
    assert shown.status == 0
    assert "γ* is not known yet" in shown.out
    assert words[:20] in shown.out.replace("\n", " ")


def test_a_single_scale_that_only_fails_ends_with_its_reason(
    run: Run, trial: Callable[[str], str]
) -> None:
    """With one reference to give up, fewer than three failures end the run."""
    own = trial("raise ValueError('broken')\nyield")
    result = run(*SEARCH, "7trials", "--widths", "32", "--trainable", own)
    assert result.status == 1
    assert result.sentence.startswith("critical: every trial has failed, the last with ValueError")


@pytest.mark.usefixtures("without_posterior")
def test_an_interrupted_search_says_how_to_go_on(
    run: Run, tmp_path: Path, trial: Callable[[str], str], analytic: str
) -> None:
    """Ctrl-C is no traceback, and keeps what was completed."""
    (tmp_path / "analytic_trial.py").write_text(Path(analytic.rpartition(":")[0]).read_text())
    own = trial(
        "from analytic_trial import train as whole\n"
        "if run.gamma != 0.5:\n    raise KeyboardInterrupt\nyield from whole(run)"
    )
    result = run(*SEARCH, "7trials", "--widths", "32", "--trainable", own, "--json")
    assert result.status == 1
    assert result.out == ""
    assert result.sentence == ("critical: interrupted: all is stored, and the same command goes on")
    (study,) = json.loads(run("studies", "--json").out)
    assert study["state"] == "interrupted"
    assert (study["trials"]["completed"], study["trials"]["interrupted"]) == (1, 1)
    assert study["budget"] == {"unit": "trials", "total": 7, "spent": 1}
    assert study["gamma"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--lr", "1e-3"],
            "--lr cannot be given with --repeat: a repeat has the options of 'demo'",
        ),
        (["--budget", "9trials"], "--budget cannot be given with --repeat"),
        (["--target", "config.json"], "--target cannot be given with --repeat"),
        (["--seed", "0"], "--seed cannot be given with --repeat"),
        (["--retries", "-1"], "--retries -1 is not allowed"),
        (["--dry-run"], "there is no store at"),
        (["--workers", "1", "--work-dir", "w", "--json"], "there is no store at"),
    ],
)
def test_a_repeat_refuses_what_would_make_it_another_search(
    run: Run, tmp_path: Path, arguments: list[str], words: str
) -> None:
    """In one sentence, before anything is written."""
    refused(run("search", "--repeat", "demo", *arguments), words)
    assert list(tmp_path.iterdir()) == []


def test_a_repeat_can_be_looked_at_first(run: Run, tmp_path: Path, finished: Search) -> None:
    """Its plan is the original's, and what it would run is counted; nothing is stored."""
    repeat = ("search", "--repeat", "default", "--storage", finished.history.store.url, "--dry-run")
    shown = run(*repeat).out
    assert "• runs the trials of 'default' again, each as it was" in shown
    counts = Counter(t.width for t in finished.history.trials)
    cells = [[cell.strip() for cell in line.split("│")] for line in shown.splitlines()]
    assert {row[1]: row[6] for row in cells if len(row) > 6} == {
        str(width): str(count) for width, count in counts.items()
    }
    document = json.loads(run(*repeat, "--json").out)
    assert (document["study"], document["repeat"]) == (
        "default-repeat",
        {"of": "default", "trials": 60},
    )
    assert document["budget"] == {"unit": "trials", "total": 60}
    assert len(document["plan"]["arms"]) == 3
    assert list(tmp_path.iterdir()) == []
    (listed,) = json.loads(run("studies", "--storage", finished.history.store.url, "--json").out)
    assert listed["study"] == "default"


@pytest.mark.usefixtures("without_posterior")
def test_a_search_whose_driver_died_is_not_said_to_run(
    run: Run, begin: Callable[..., Search]
) -> None:
    """By studies and show, for people and for programs."""
    search = begin()
    search.next()
    store, study = search.history.store, search.history.study
    with holding(store, study, {}):
        assert "│ running " in run("studies").out
        assert run("show", "s").out.startswith("s is running\n")
    assert "│ interrupted: its driver died │" in run("studies").out
    assert run("show", "s").out.startswith("s is interrupted: its driver died\n")
    (listed,) = json.loads(run("studies", "--json").out)
    shown = json.loads(run("show", "s", "--json").out)
    for document in (listed, shown):
        assert (document["state"], document["reason"]) == ("interrupted", "its driver died")


def test_the_environment_of_every_driver_is_shown(run: Run, begin: Callable[..., Search]) -> None:
    """The last one's in two lines; with --json each with its time and process, and the seeds."""
    search = begin()
    store, study = search.history.store, search.history.study
    assert "ran with" not in run("show", "s").out
    with holding(store, study, {"versions": {"python": "3.10.1"}}):
        pass
    described = environment()
    with holding(store, study, described):
        found = json.loads(run("show", "s", "--json").out)
    first, last = found["environment"]
    assert first["versions"] == {"python": "3.10.1"}
    assert first["acquired_at"] <= first["released_at"] <= last["acquired_at"]
    assert last["released_at"] is None
    assert last["process"] == {"host": this_process().host, "pid": os.getpid()}
    assert {name: last[name] for name in described} == described
    assert found["options"]["given"]["seed"] == 0
    assert found["plan"]["seeds"] == [0]
    text = " ".join(run("show", "s").out.split())
    versions = described["versions"]
    assert f"ran with python {versions['python']}, torch {versions['torch']}, ray" in text
    assert f"{described['devices'][0]}, host {last['process']['host']}, the last of 2" in text
