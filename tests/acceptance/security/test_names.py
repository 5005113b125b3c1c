"""Names and texts of users and of others neither leave their folder nor reach a terminal raw."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from critical.api import run_search
from critical.cli.application import _status
from critical.errors import OptionError

CLEAR = "\x1b[2J\x9b2J\x07"
LEADING_AWAY = ("../../etc/x", "a/b", "..", ".hidden", f"a{CLEAR}", "a" * 10_000, "a\n", "ü", "")
Told = Callable[..., tuple[int, str]]


@pytest.fixture
def tell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Told:
    """Run a command in process in an empty folder; return its status and all that it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CRITICAL_STORAGE", raising=False)

    def run(*arguments: str) -> tuple[int, str]:
        status = _status(list(arguments))
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def test_a_trial_cannot_write_to_the_terminal(
    tell: Told, tmp_path: Path, short: tuple[str, ...]
) -> None:
    """By what it raises, nor can who writes to the store."""
    (tmp_path / "own.py").write_text(f"def train(run):\n    raise ValueError({CLEAR!r})\n    yield")
    said = [tell(*short, "--workers", "0", "--trainable", "own.py:train")]
    assert said[0][0] == 1
    assert r"ValueError: \x1b[2J\x9b2J\x07 (own.py, line 2)" in said[0][1]
    with sqlite3.connect("critical.db") as database:
        database.execute("UPDATE critical_trial SET reason = ?", (f"in the store {CLEAR}",))
        database.execute("UPDATE critical_study SET reason = ?", (f"in the store {CLEAR}",))
    database.close()
    commands = (("show",), ("show", "--json"), ("trials", "--csv"), ("trials", "--json"))
    said += [tell(name, "default", *rest) for name, *rest in commands]
    assert all("in the store" in text for _, text in said[1:])
    for _, text in said:
        assert not {"\x1b", "\x9b", "\x07"} & set(text)
    written = json.loads(said[-1][1])
    assert written[0]["reason"] == f"in the store {CLEAR}"


@pytest.mark.parametrize("name", LEADING_AWAY)
def test_a_model_type_that_is_no_name_is_refused(
    name: str, tell: Told, tmp_path: Path, llama_config: Path, short: tuple[str, ...]
) -> None:
    """A study is named after it: the sentence says what to write, and nothing is written."""
    config = json.loads(llama_config.read_text()) | {"model_type": name}
    (tmp_path / "config.json").write_text(json.dumps(config))
    status, text = tell(*short, "--workers", "0", "--target", "config.json")
    assert status == 2
    assert text.count("\n") == 1
    assert "config.json: model_type is" in text
    assert 'write a family\'s name, as "llama"' in text
    assert len(text) < 200
    assert "\x1b" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", LEADING_AWAY)
def test_a_study_has_a_plain_name(name: str, tell: Told, tmp_path: Path, analytic: str) -> None:
    """From the command line, from critical.toml and from Python, with the same sentence."""
    sentence = "is not allowed: use letters, digits, '.', '_' and '-', beginning with a letter"
    status, text = tell("search", "--budget", "8trials", "--trainable", analytic, "--study", name)
    assert (status, "\x1b" in text) == (2, False)
    assert sentence in text
    (tmp_path / "critical.toml").write_text(f"budget = '8trials'\nstudy = {json.dumps(name)}\n")
    status, text = tell("search", "--config", "critical.toml")
    assert status == 2
    assert sentence in text
    with pytest.raises(OptionError, match=r"--study .*is not allowed: use letters"):
        run_search(budget="8trials", trainable=analytic, study=name, workers=0)
    assert [path.name for path in tmp_path.iterdir()] == ["critical.toml"]


def test_a_name_that_is_no_text_is_refused(tell: Told) -> None:
    """A file's name may be any bytes, and the store holds text."""
    status, text = tell("show", os.fsdecode(b"a\xff"))
    assert (status, text) == (
        2,
        "critical: 'a\\udcff' is not UTF-8, as the store is: rename what it names\n",
    )
