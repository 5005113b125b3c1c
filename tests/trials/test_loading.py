"""A user's own trial by its name, and every mistake in naming it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from critical.trials import ProxyRun
from critical.trials.errors import TrainableError
from critical.trials.loading import parse_trainable

TRIAL = """
from dataclasses import dataclass
from critical.trials import Measurement

@dataclass
class Settings:
    loss: float = 0.25

settings = Settings()
number = 3

def train(run):
    yield Measurement(1, settings.loss, 0.5)
"""
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a file where the user is; what it changes in Python is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    modules = set(sys.modules)

    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield make
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def result(text: str, run: ProxyRun) -> float:
    """The loss that a named trial yields, loaded anew from its pickle as a worker does."""
    trainable = pickle.loads(pickle.dumps(parse_trainable(text)))
    return float(next(trainable(run)).loss)


def test_a_function_of_a_file(write: Write, tiny: Callable[..., ProxyRun]) -> None:
    """By a relative or an absolute path; dataclasses in the file work."""
    path = write("own_trial.py", TRIAL)
    assert result("own_trial.py:train", tiny()) == 0.25
    assert result(f"{path}:train", tiny()) == 0.25


def test_a_function_of_a_module(write: Write, tiny: Callable[..., ProxyRun]) -> None:
    """Found from the folder that the user is in, packages included."""
    write("own_package/trial.py", TRIAL)
    assert result("own_package.trial:train", tiny()) == 0.25


def test_a_file_may_import_what_stands_beside_it(
    write: Write, tiny: Callable[..., ProxyRun]
) -> None:
    """As when Python runs that file, wherever the user is."""
    write("nested/own_neighbour.py", "LOSS = 0.75\n")
    imports = "from own_neighbour import LOSS\n"
    write("nested/own_trial.py", imports + TRIAL.replace("0.25", "LOSS"))
    assert result("nested/own_trial.py:train", tiny()) == 0.75


def test_a_file_is_found_after_the_user_has_moved(
    write: Write, tiny: Callable[..., ProxyRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers run in another folder."""
    write("own_trial.py", TRIAL)
    trainable = parse_trainable("own_trial.py:train")
    for name in [name for name in sys.modules if name.startswith("critical_trainable_")]:
        del sys.modules[name]
    monkeypatch.chdir("/")
    assert next(trainable(tiny())).loss == 0.25


@pytest.mark.parametrize("text", ["", "train", "own_trial.py", "own_trial.py:", ":train"])
def test_a_name_without_both_parts(text: str) -> None:
    """The message shows both ways to write it."""
    message = r"names no function: write --trainable FILE\.py:NAME or --trainable module:NAME"
    with pytest.raises(TrainableError, match=message):
        parse_trainable(text)


def test_a_file_that_is_not_there(write: Write) -> None:
    """It is named as it was given."""
    with pytest.raises(TrainableError, match=r"file nowhere\.py does not exist: write"):
        parse_trainable("nowhere.py:train")


@pytest.mark.parametrize("place", ["nowhere", "nowhere.trial", "json.nowhere", "examples/trial"])
def test_a_module_that_is_not_there(place: str, write: Write) -> None:
    """Also where only its package exists, or a path lacks its .py."""
    with pytest.raises(TrainableError, match=rf"no module '{place}' to import: write"):
        parse_trainable(f"{place}:train")


def test_a_module_that_imports_what_is_not_there(write: Write) -> None:
    """The missing module is named, and not mistaken for the user's own, though it is a prefix."""
    write("own_trial_two.py", "import own_trial_t\n")
    with pytest.raises(
        TrainableError, match=r"importing own_trial_two failed with ModuleNotFoundError: .*_t'"
    ):
        parse_trainable("own_trial_two:train")


@pytest.mark.parametrize("place", ["own_trial.py", "own_trial"])
def test_a_name_that_is_not_there(place: str, write: Write) -> None:
    """The message names the place and the name."""
    write("own_trial.py", TRIAL)
    with pytest.raises(TrainableError, match=r"own_trial(\.py)? has no 'trian': write"):
        parse_trainable(f"{place}:trian")


def test_a_name_that_cannot_be_called(write: Write) -> None:
    """The message says what it is and what to name."""
    write("own_trial.py", TRIAL)
    message = r"'number' in .*own_trial\.py is a int: name a function that takes a ProxyRun"
    with pytest.raises(TrainableError, match=message):
        parse_trainable("own_trial.py:number")


@pytest.mark.parametrize("place", ["own_trial.py", "own_trial"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def train(:", "SyntaxError: "),
        ("raise ValueError('one\\ntwo')", "ValueError: one two$"),
        ("import sys; sys.exit(3)", "SystemExit: 3$"),
    ],
)
def test_an_import_that_fails(place: str, body: str, message: str, write: Write) -> None:
    """In one line, also where the file ends the process; a mended file loads afterwards."""
    path = write("own_trial.py", body)
    with pytest.raises(TrainableError, match=rf"importing .*own_trial.* failed with {message}"):
        parse_trainable(f"{place}:train")
    path.write_text(TRIAL)
    assert parse_trainable(f"{place}:train").name == "train"


@pytest.mark.parametrize("place", ["beside_script", "package.inner"])
def test_a_module_that_a_script_finds_is_found_by_its_workers(
    place: str, write: Write, monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., ProxyRun]
) -> None:
    """From beside the script, which is on no worker's path, rather than where the user is."""
    folder = write("scripts/own_script.py", "").parent
    write(f"scripts/{place.replace('.', '/')}.py", TRIAL)
    path = list(sys.path)
    monkeypatch.setattr(sys, "path", [str(folder), *path])
    trainable = parse_trainable(f"{place}:train")
    for name in {place, place.partition(".")[0]}:
        del sys.modules[name]
    monkeypatch.setattr(sys, "path", path)
    assert next(trainable(tiny())).loss == 0.25
