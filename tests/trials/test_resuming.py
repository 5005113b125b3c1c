"""An interrupted run goes on, and comes to the same bits as one that was not."""

from __future__ import annotations

import json
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from critical.trials import Interrupted, Measurement, ProxyRun, Scale, checkpoint
from critical.trials.architecture import Architecture, Kinds
from critical.trials.checkpoint import CHECKPOINT_FILE
from critical.trials.corpus import Corpus
from critical.trials.resuming import EARLIEST_SECONDS, Keeper
from critical.trials.run import STOP_FILE
from critical.trials.training import ProxyTraining, TrainingRecipe, fingerprint

Make = Callable[..., ProxyRun]
SHORT = Scale(16, 1, 2, 20_000)
"""About 80 steps, every one of the first is evaluated."""
LONG = Scale(16, 1, 2, 60_000)
"""Over 200 steps, so that the first evaluation is after the second step."""


@pytest.fixture
def run(tiny: Make, tmp_path: Path) -> ProxyRun:
    """A run with a folder."""
    folder = tmp_path / "trial"
    folder.mkdir()
    return tiny(scale=SHORT, checkpoint_dir=folder)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save after every step."""
    monkeypatch.setattr("critical.trials.resuming.EARLIEST_SECONDS", 0.0)
    monkeypatch.setattr("critical.trials.resuming.MOST_OF_THE_TIME", 1e9)


def folder_of(run: ProxyRun) -> Path:
    """The folder of a run that has one."""
    assert run.checkpoint_dir is not None
    return run.checkpoint_dir


def interrupted(
    recipe: TrainingRecipe, run: ProxyRun, step: int, monkeypatch: pytest.MonkeyPatch
) -> list[Measurement]:
    """What a run yields that is told to stop while it takes a step, counted from 1."""
    advance = ProxyTraining.advance
    stop = folder_of(run) / STOP_FILE

    def advance_and_ask(self: ProxyTraining, number: int) -> None:
        advance(self, number)
        if number == step:
            stop.touch()

    found: list[Measurement] = []
    with monkeypatch.context() as patch:
        patch.setattr(ProxyTraining, "advance", advance_and_ask)
        with pytest.raises(Interrupted, match=f"stopped after step {step}$"):
            found.extend(recipe(run))  # extend takes in what came before the exception
    stop.unlink()
    return found


def values(curve: list[Measurement]) -> Tensor:
    """Every number of a curve, one after another. Shape (numbers,), float64."""
    rows = [
        [float(m.tokens), m.loss, m.reasoning, *(v for _, v in sorted(m.extras.items()))]
        for m in curve
    ]
    return torch.tensor([number for row in rows for number in row], dtype=torch.float64)


@pytest.mark.parametrize("tied", [False, True])
def test_interrupted_anywhere_it_is_the_same_to_the_bit(
    tied: bool, recipe: TrainingRecipe, run: ProxyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first evaluation, at one, between two, after the last but one; again and again."""
    recipe = replace(recipe, architecture=Architecture(tied=tied))
    run = replace(run, scale=LONG)
    training = ProxyTraining(recipe, run)
    looks = sorted(training.looks)
    assert looks[0] == 2
    whole = list(recipe(replace(run, checkpoint_dir=None)))
    for step in (1, looks[0], looks[20] + 1, looks[-2], looks[-2] + 1, training.steps - 1):
        found = interrupted(recipe, run, step, monkeypatch)
        assert found == whole[: sum(look <= step for look in looks)]
    resumed = list(recipe(run))
    assert torch.equal(values(resumed), values(whole))
    assert resumed == whole


def test_only_what_is_left_is_trained(
    recipe: TrainingRecipe, run: ProxyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured before is yielded again without a step."""
    before = interrupted(recipe, run, 50, monkeypatch)
    steps: list[int] = []
    advance = ProxyTraining.advance

    def note(self: ProxyTraining, step: int) -> None:
        steps.append(step)
        advance(self, step)

    monkeypatch.setattr(ProxyTraining, "advance", note)
    resumed = recipe(run)
    assert [next(resumed) for _ in before] == before
    assert steps == []
    assert len(list(resumed)) == recipe.evaluations - len(before)
    assert steps == list(range(51, ProxyTraining(recipe, run).steps + 1))


def test_a_run_at_its_end_is_not_interrupted(recipe: TrainingRecipe, run: ProxyRun) -> None:
    """Told to stop at its last measurement, it has completed, and saves nothing any more."""
    measurements = recipe(run)
    found = [next(measurements) for _ in range(recipe.evaluations)]
    (folder_of(run) / STOP_FILE).touch()
    assert list(measurements) == []
    assert found == list(recipe(replace(run, checkpoint_dir=None)))
    assert [path.name for path in folder_of(run).iterdir()] == [STOP_FILE]


def test_told_to_stop_before_it_starts(recipe: TrainingRecipe, run: ProxyRun) -> None:
    """It takes one step, and later goes on."""
    (folder_of(run) / STOP_FILE).touch()
    with pytest.raises(Interrupted, match="stopped after step 1"):
        list(recipe(run))
    (folder_of(run) / STOP_FILE).unlink()
    assert list(recipe(run)) == list(recipe(replace(run, checkpoint_dir=None)))


def test_a_training_continues_from_its_state(recipe: TrainingRecipe, run: ProxyRun) -> None:
    """Weights, averages and optimizer are equal to the bit after more steps, and none is shared."""
    one, other = ProxyTraining(recipe, run), ProxyTraining(recipe, replace(run, gamma=1.1))
    for step in range(1, 6):
        one.advance(step)
    assert other.restore(one.state())
    for training in (one, other):
        training.advance(6)
    for name, tensor in one.state().items():
        assert torch.equal(tensor, other.state()[name])
        assert tensor.data_ptr() != other.state()[name].data_ptr()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("step/head.weight"),
        lambda state: state.update(more=torch.zeros(1)),
        lambda state: state.update({"weight/norm.weight": torch.zeros(17)}),
        lambda state: state.update({"weight/norm.weight": torch.zeros(16, dtype=torch.float64)}),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
    spoil: Callable[[dict[str, Tensor]], object], recipe: TrainingRecipe, run: ProxyRun
) -> None:
    """A tensor is missing, is one too many, or has another shape or type."""
    one, other = ProxyTraining(recipe, run), ProxyTraining(recipe, run)
    one.advance(1)
    state = one.state()
    spoil(state)
    assert not other.restore(state)
    other.advance(1)
    assert all(torch.equal(one.state()[name], t) for name, t in other.state().items())


def test_a_checkpoint_of_another_run_is_ignored(
    recipe: TrainingRecipe, run: ProxyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run starts anew, and its own is saved over it."""
    interrupted(recipe, run, 40, monkeypatch)
    other = replace(run, gamma=0.7)
    expected = list(recipe(replace(other, checkpoint_dir=None)))
    interrupted(recipe, other, 3, monkeypatch)
    assert list(recipe(other)) == expected


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_torn_checkpoint_is_ignored(
    content: bytes, recipe: TrainingRecipe, tiny: Make, tmp_path: Path
) -> None:
    """The run starts anew."""
    (tmp_path / CHECKPOINT_FILE).write_bytes(content)
    assert list(recipe(tiny(checkpoint_dir=tmp_path))) == list(recipe(tiny()))


CHANGED: Mapping[str, Any] = {
    "gamma": 0.61, "learning_rate": 1e-3, "scale": Scale(16, 1, 2, 20_001), "seed": 4,
    "settings": "relaxed", "mixture": {"reasoning": 1.0}, "batch_tokens": 128,
    "architecture": Architecture(kinds=Kinds(qk_norm="head")), "target_width": 512,
    "model": "hf", "hf_config": "{}", "convention": "width",
    "weight_decay": 0.2, "base_learning_rate": 1e-3, "evaluations": 41, "warmup_steps": 21,
    "development": 7,
    "betas": (0.9, 0.95), "adam_eps": 1e-7, "clip": 2.0,
    "compiled": True, "autocast": True,
    "corpus": Corpus(Path("corpus.bin"), 1, "another digest"),
}  # fmt: skip


def test_all_that_decides_the_numbers_is_in_the_fingerprint(
    recipe: TrainingRecipe, run: ProxyRun
) -> None:
    """Every field of recipe and run, the order of the mixture, but neither device nor folders."""
    names = {part.name for kind in (recipe, run) for part in fields(kind)}
    assert names - CHANGED.keys() == {"device", "checkpoint_dir"}
    of_run = {part.name for part in fields(run)}
    found = {fingerprint(recipe, run)}
    for name, value in CHANGED.items():
        if name in of_run:
            found.add(fingerprint(recipe, replace(run, **{name: value})))
        else:
            found.add(fingerprint(replace(recipe, **{name: value}), run))
    backwards = dict(reversed(list(recipe.mixture.items())))
    found.add(fingerprint(replace(recipe, mixture=backwards), run))
    assert len(found) == len(CHANGED) + 2
    assert recipe.corpus is not None
    moved = replace(recipe, corpus=replace(recipe.corpus, path=Path("elsewhere.bin")))
    elsewhere = replace(run, device="cuda", checkpoint_dir=None)
    assert fingerprint(moved, elsewhere) == fingerprint(recipe, run)


def test_a_checkpoint_holds_every_measurement_up_to_its_step(
    recipe: TrainingRecipe, run: ProxyRun, always: None
) -> None:
    """One that was yielded may be lost with the driver, so it is in whatever is saved later."""
    training = ProxyTraining(recipe, run)
    looks = sorted(training.looks)
    seen: list[Measurement] = []
    for measurement in recipe(run):
        found = checkpoint.load(folder_of(run))
        if found is not None:
            step = found.facts["step"]
            assert len(found.facts["measured"]) == sum(look <= step for look in looks)
            assert [m[0] for m in found.facts["measured"]] == [m.tokens for m in seen]
        seen.append(measurement)


def test_measurements_come_back_exactly(run: ProxyRun, recipe: TrainingRecipe) -> None:
    """Awkward and non-finite numbers among them."""
    extras = {"third": 1 / 3, "tiny": 5e-324, "rank": float("inf"), "zero": -0.0}
    given = Measurement(3, 0.1 + 0.2, 2 / 3, extras)
    training = ProxyTraining(recipe, run)
    training.advance(1)
    keeper = Keeper(run, "this run")
    keeper.add(given)
    (folder_of(run) / STOP_FILE).touch()
    with pytest.raises(Interrupted):
        keeper.after(1, training)
    resumed = Keeper(run, "this run")
    assert resumed.resume(ProxyTraining(recipe, run)) == 1
    assert [repr(m) for m in resumed.measured] == [repr(given)]


def test_nothing_is_written_without_a_folder(
    recipe: TrainingRecipe,
    tiny: Make,
    always: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even in the folder that the process is in."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    list(recipe(tiny()))
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(("seconds", "interval"), [(1 / 64, EARLIEST_SECONDS), (2.0, 200.0)])
def test_saves_are_rare(
    seconds: float,
    interval: float,
    recipe: TrainingRecipe,
    run: ProxyRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten seconds apart, or as far that a save takes 1% of the time; on a clock of our own."""
    now = [0.0]
    saved: list[float] = []

    def save(*_: object) -> None:
        saved.append(now[0])
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("critical.trials.resuming.time", clock)
    monkeypatch.setattr("critical.trials.checkpoint.save", save)
    training = ProxyTraining(recipe, run)
    training.advance(1)
    keeper = Keeper(run, "this run")
    for step in range(1, 2_000):
        now[0] += 0.5
        keeper.after(step, training)
    assert saved[0] == EARLIEST_SECONDS
    apart = [after - before - seconds for before, after in pairwise(saved)]
    assert len(apart) > 3
    assert all(interval <= pause <= interval + 0.5 for pause in apart)


def test_a_save_that_fails_ends_no_run(recipe: TrainingRecipe, run: ProxyRun, always: None) -> None:
    """Later measurements count the failures, nothing else differs, and it saves when it can."""
    whole = list(recipe(replace(run, checkpoint_dir=None)))
    folder = folder_of(run)
    folder.rmdir()
    curve: list[Measurement] = []
    for measurement in recipe(run):
        curve.append(measurement)
        if len(curve) == 10:
            folder.mkdir()
    failures = [m.extras.get("checkpoint_failures", 0.0) for m in curve]
    assert failures[:4] == [0.0, 1.0, 2.0, 3.0]
    assert failures == sorted(failures)
    assert failures[10] == failures[-1]
    for measurement, expected in zip(curve, whole, strict=True):
        extras = {k: v for k, v in measurement.extras.items() if k != "checkpoint_failures"}
        assert replace(measurement, extras=extras) == expected
    assert list(recipe(run)) == curve


def test_a_full_disk_at_the_stop_keeps_the_checkpoint_before(
    recipe: TrainingRecipe, run: ProxyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run still ends as it was told, and goes on from there later."""
    interrupted(recipe, run, 50, monkeypatch)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        interrupted(recipe, run, 60, monkeypatch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    found = checkpoint.load(folder_of(run))
    assert found is not None
    assert found.facts["step"] == 50
    assert list(recipe(run)) == list(recipe(replace(run, checkpoint_dir=None)))


CHILD = """
import json, pickle, sys
from pathlib import Path
from critical.trials import resuming
recipe, run = pickle.loads(Path(sys.argv[1]).read_bytes())
resuming.EARLIEST_SECONDS, resuming.MOST_OF_THE_TIME = 0.0, 1e9
for measurement in recipe(run):
    print(json.dumps(measurement.tokens), flush=True)
"""


def killed_after(file: Path, measurements: int) -> Iterator[int]:
    """Train in a process of its own, and kill it after so many; the tokens that it has yielded."""
    command = [sys.executable, "-c", CHILD, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(measurements):
            yield int(json.loads(process.stdout.readline()))
        time.sleep(0.003)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_killed_it_goes_on_where_it_was(
    recipe: TrainingRecipe, run: ProxyRun, tmp_path: Path
) -> None:
    """A process that is killed twice amid steps and saves, then another that ends the run."""
    file = tmp_path / "task.pickle"
    file.write_bytes(pickle.dumps((recipe, run)))
    whole = list(recipe(replace(run, checkpoint_dir=None)))
    for count in (10, 25):
        assert list(killed_after(file, count)) == [m.tokens for m in whole[:count]]
        found = checkpoint.load(folder_of(run))
        assert found is not None
        assert len(found.facts["measured"]) >= count - 1
    assert list(recipe(run)) == whole
    assert [path.name for path in folder_of(run).iterdir()] == [CHECKPOINT_FILE]
