"""A pack's members equal the same trials alone, whatever becomes of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from critical.trials import Interrupted, Measurement, ProxyRun, Scale, checkpoint
from critical.trials import pack as packs
from critical.trials.architecture import Architecture, Kinds
from critical.trials.corpus import Corpus
from critical.trials.pack import Pack, train_pack
from critical.trials.pack_stack import Stack
from critical.trials.run import STOP_FILE
from critical.trials.stacking import Batch, stacked_losses
from critical.trials.training import TrainingRecipe

Rows = list[list[Measurement | None]]
TOLERANCE = 1e-4
RECIPE = TrainingRecipe(
    None,
    {"reasoning": 0.75, "memory": 0.25},
    batch_tokens=144,
    evaluations=10,
    development=2,
    clip=0.5,
    warmup_steps=5,
)
"""Ten evaluations, and a clipping that some steps of some members meet."""
SCALE = Scale(16, 2, 2, 5_760)
"""40 steps."""
RUNS = [
    ProxyRun(gamma, rate, SCALE, seed=3)
    for gamma, rate in ((0.4, 1e-2), (0.7, None), (1.0, 1e-2), (0.7, 2e-2))
]
"""One of them at the recipe's own rate."""


@pytest.fixture(scope="module")
def alone() -> list[list[Measurement]]:
    """The measurements of every run, each trained alone."""
    return [list(RECIPE(run)) for run in RUNS]


@pytest.fixture(scope="module")
def whole() -> Rows:
    """What the pack of all runs yields."""
    return list(RECIPE.train_pack(RUNS))


def with_folders(runs: Sequence[ProxyRun], folder: Path) -> list[ProxyRun]:
    """Give each run a folder of its own."""
    folders = [folder / f"trial{number}" for number in range(len(runs))]
    for each in folders:
        each.mkdir(parents=True)
    return [replace(r, checkpoint_dir=f) for r, f in zip(runs, folders, strict=True)]


def curves(rows: Rows) -> list[list[Measurement]]:
    """Each member's measurements, up to its first None."""
    found = []
    for column in zip(*rows, strict=True):
        ended = column.index(None) if None in column else len(column)
        assert all(measurement is None for measurement in column[ended:])
        found.append([measurement for measurement in column[:ended] if measurement is not None])
    return found


def assert_alike(found: Sequence[Measurement], expected: Sequence[Measurement]) -> None:
    """Same tokens and names, and numbers that differ by roundings."""
    assert [m.tokens for m in found] == [m.tokens for m in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=TOLERANCE)
        assert one.reasoning == pytest.approx(other.reasoning, rel=TOLERANCE)
        assert one.extras.keys() == other.extras.keys()
        for name, value in other.extras.items():
            # A gradient magnifies the roundings of all steps before it.
            rough = name.startswith("gradient_norm_final")
            assert one.extras[name] == pytest.approx(value, rel=0.05 if rough else 1e-3, abs=1e-4)


def drive(
    pack: Generator[list[Measurement | None], frozenset[int], None], dropping: dict[int, int]
) -> Rows:
    """Run a pack to its end; after some of its rows, counted from 1, a member is dropped."""
    rows: Rows = [next(pack)]
    while True:
        member = dropping.get(len(rows))
        try:
            rows.append(pack.send(frozenset() if member is None else frozenset({member})))
        except StopIteration:
            return rows


def test_a_member_equals_the_trial_alone(whole: Rows, alone: list[list[Measurement]]) -> None:
    """Loss, R and every extra at every evaluation, for other γ and rates."""
    for found, expected in zip(curves(whole), alone, strict=True):
        assert_alike(found, expected)


def test_text_and_seeds_of_their_own(corpus: Corpus) -> None:
    """Members of other seeds train on their own data, in one stack."""
    recipe = TrainingRecipe(corpus, batch_tokens=256, evaluations=6, development=0)
    scale = Scale(16, 1, 2, 10_000)
    runs = [replace(run, seed=number // 2, scale=scale) for number, run in enumerate(RUNS[:3])]
    pack = Pack(recipe, runs)
    pack.advance(1)
    assert [stack.members for stack in pack.stacks] == [[0, 1, 2]]
    for found, run in zip(curves(list(train_pack(recipe, runs))), runs, strict=True):
        assert_alike(found, list(recipe(run)))


ARCHITECTURES = {
    "tied": Architecture(tied=True),
    "grouped queries, gain-free norms": Architecture(kv_ratio=0.5, kinds=Kinds(norm_gain=False)),
    "as GPT-NeoX": Architecture(
        kinds=Kinds(
            norm="layer", parallel="own_norms", activation="gelu", gated=False, qkv_bias=True,
            output_bias=True, feed_forward_bias=True, rotary_fraction=0.5,
        )
    ),
    "as GPT-2": Architecture(kinds=Kinds(norm="layer", positions="learned", head_bias=True)),
    "as Gemma-2": Architecture(
        kinds=Kinds(placement="sandwich", scaled_embedding=True, attention_cap=5.0, logit_cap=9.0)
    ),
    "as OLMo-2": Architecture(kinds=Kinds(placement="post", qk_norm="all", attention_scale=0.7)),
    "as Qwen3": Architecture(kinds=Kinds(qk_norm="head")),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_packed(name: str) -> None:
    """All members in one stack, and as alone."""
    recipe = replace(RECIPE, architecture=ARCHITECTURES[name], evaluations=3, development=0)
    runs = [replace(run, scale=Scale(16, 1, 2, 1_440)) for run in RUNS[:2]]
    pack = Pack(recipe, runs)
    pack.advance(1)
    assert [len(stack.state) for stack in pack.stacks] == [2]
    for found, run in zip(curves(list(train_pack(recipe, runs))), runs, strict=True):
        assert_alike(found, list(recipe(run)))


@pytest.mark.parametrize(("settings", "stacks"), [("relaxed", [[0, 1]]), ("carried", [[0], [1]])])
def test_settings(settings: str, stacks: list[list[int]]) -> None:
    """Where they make models differ in more than their weights, each is a stack of its own."""
    recipe = replace(RECIPE, evaluations=3, development=0, target_width=512)
    scale = Scale(16, 1, 2, 1_440)
    runs = [replace(run, scale=scale, settings=settings) for run in RUNS[:2]]
    pack = Pack(recipe, runs)
    pack.advance(1)
    assert [stack.members for stack in pack.stacks] == stacks
    for found, run in zip(curves(list(train_pack(recipe, runs))), runs, strict=True):
        assert_alike(found, list(recipe(run)))


def test_one_member_alone(alone: list[list[Measurement]]) -> None:
    """A pack of one is the trial with another optimizer."""
    (found,) = curves(list(train_pack(RECIPE, RUNS[:1])))
    assert_alike(found, alone[0])


@pytest.mark.parametrize("rate", [1e4, 1e30])
def test_divergence_stays_with_its_member(rate: float, alone: list[list[Measurement]]) -> None:
    """It yields an infinite loss, then None; the others have no NaN and lose nothing."""
    runs = [RUNS[0], replace(RUNS[1], learning_rate=rate), *RUNS[2:]]
    pack = Pack(RECIPE, runs)
    for step in range(1, min(pack.looks) + 1):
        pack.advance(step)
    measured = pack.measure(min(pack.looks))
    assert [m is not None and math.isfinite(m.loss) for m in measured] == [True, False, True, True]
    assert pack.stacks[0].members == [0, 2, 3]
    assert pack.stacks[0].state.weights.isfinite().all()
    found = curves(list(train_pack(RECIPE, runs)))
    assert [m.loss for m in found[1]] == [math.inf]
    for number in (0, 2, 3):
        assert_alike(found[number], alone[number])


def test_dropped_members_free_their_share(alone: list[list[Measurement]]) -> None:
    """They yield None from then on, the memory of the stack shrinks, and the others go on."""
    found = curves(drive(train_pack(RECIPE, RUNS), {3: 0, 5: 2}))
    assert [len(curve) for curve in found] == [3, 10, 5, 10]
    for curve, expected in zip(found, alone, strict=True):
        assert_alike(curve, expected[: len(curve)])
    pack = Pack(RECIPE, RUNS)
    pack.advance(1)
    sizes = {}
    for dropped in (frozenset[int](), frozenset({0, 3})):
        pack.drop(dropped)
        pack.advance(2 + len(dropped))
        (stack,) = pack.stacks
        storages = [
            t.untyped_storage().nbytes() for t in (stack.state.weights, stack.state.exp_avg)
        ]
        sizes[len(stack.members)] = (len(stack.state), storages)
    assert sizes[4][0] == 4
    assert sizes[2] == (2, [size // 2 for size in sizes[4][1]])


def test_a_pack_with_nobody_left_ends() -> None:
    """Nothing is trained for members that were dropped."""
    pack = train_pack(RECIPE, RUNS[:2])
    next(pack)
    with pytest.raises(StopIteration):
        pack.send(frozenset({0, 1}))


def interrupted(pack: Generator[Any, Any, None], run: ProxyRun, after: int) -> Rows:
    """What a pack yields until a stop is requested of one run after so many rows."""
    assert run.checkpoint_dir is not None
    rows: Rows = [next(pack) for _ in range(after)]
    (run.checkpoint_dir / STOP_FILE).touch()
    with pytest.raises(Interrupted, match="stopped after step"):
        rows.extend(pack)
    (run.checkpoint_dir / STOP_FILE).unlink()
    return rows


def test_interrupted_together_they_go_on_alone(
    alone: list[list[Measurement]], tmp_path: Path
) -> None:
    """Each from a checkpoint of its own, with all that was measured before."""
    kept = with_folders(RUNS, tmp_path)
    rows = interrupted(train_pack(RECIPE, kept), kept[2], after=5)
    for number, run in enumerate(kept):
        assert run.checkpoint_dir is not None
        found = checkpoint.load(run.checkpoint_dir)
        assert found is not None
        assert found.facts["step"] >= 5
        curve = list(RECIPE(run))
        assert curve[: len(rows)] == [row[number] for row in rows]
        assert_alike(curve, alone[number])


def test_interrupted_alone_they_go_on_together(
    alone: list[list[Measurement]], tmp_path: Path
) -> None:
    """Wherever each had been: those behind catch up, and all are in one stack in the end."""
    kept = with_folders(RUNS, tmp_path)
    before = {}
    for number, after in ((1, 3), (3, 7)):
        run = kept[number]
        rows = interrupted(([m] for m in RECIPE(run)), run, after)
        before[number] = [m for (m,) in rows]
    found = curves(list(train_pack(RECIPE, kept)))
    for curve, expected in zip(found, alone, strict=True):
        assert_alike(curve, expected)
    for number, earlier in before.items():
        assert found[number][: len(earlier)] == earlier


def test_a_pack_is_interrupted_and_goes_on(whole: Rows, tmp_path: Path) -> None:
    """Twice, to the same bits as a pack that was not."""
    kept = with_folders(RUNS, tmp_path)
    for after in (4, 8):
        rows = interrupted(train_pack(RECIPE, kept), kept[0], after)
        assert rows == whole[: len(rows)]
    assert list(train_pack(RECIPE, kept)) == whole


@pytest.fixture
def memory_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], list[int]]:
    """Return a function that makes one of the pack's functions fail beyond so many members.

    That one returns the numbers of members that it was called with, as it goes on.
    """

    def limit(name: str, most: int) -> list[int]:
        asked: list[int] = []
        whole = getattr(packs, name)

        def limited(model: Any, layout: Any, rows: Tensor, *others: Any) -> Any:
            asked.append(len(rows))
            if len(rows) > most:
                raise torch.OutOfMemoryError(f"CUDA out of memory with {len(rows)} members")
            return whole(model, layout, rows, *others)

        monkeypatch.setattr(packs, name, limited)
        return asked

    return limit


@pytest.mark.parametrize("name", ["stacked_losses", "stacked_logits"])
@pytest.mark.parametrize(("most", "sizes"), [(3, [2, 2]), (1, [1, 1, 1, 1])])
def test_without_memory_the_pack_is_halved(
    name: str,
    most: int,
    sizes: list[int],
    whole: Rows,
    memory_for: Callable[[str, int], list[int]],
) -> None:
    """In a step or in scoring: no measurement is lost or doubled, and no step is taken twice."""
    asked = memory_for(name, most)
    for found, expected in zip(curves(list(train_pack(RECIPE, RUNS))), curves(whole), strict=True):
        assert_alike(found, expected)
    assert asked[-len(sizes) :] == sizes
    assert sum(size > most for size in asked) == len(sizes) - 1


def test_without_memory_amid_a_run(
    whole: Rows, memory_for: Callable[[str, int], list[int]]
) -> None:
    """Another process has taken it: the pack goes on from the step that it was at."""
    pack = train_pack(RECIPE, RUNS)
    rows: Rows = [next(pack) for _ in range(6)]
    memory_for("stacked_losses", 2)
    rows.extend(pack)
    for found, expected in zip(curves(rows), curves(whole), strict=True):
        assert_alike(found, expected)


def test_without_memory_to_begin_with(whole: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """The members are taken to the device by halves, too."""
    move = Pack._on_device

    def limited(self: Pack, stack: Stack) -> Stack:
        if len(stack.members) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return move(self, stack)

    monkeypatch.setattr(Pack, "_on_device", limited)
    for found, expected in zip(curves(list(train_pack(RECIPE, RUNS))), curves(whole), strict=True):
        assert_alike(found, expected)


def test_no_memory_for_a_single_member_is_an_error(
    memory_for: Callable[[str, int], list[int]],
) -> None:
    """Nothing is left to halve."""
    asked = memory_for("stacked_losses", 0)
    with pytest.raises(torch.OutOfMemoryError, match="with 1 members"):
        next(train_pack(RECIPE, RUNS))
    assert asked == [4, 2, 1]


def test_other_errors_are_not_about_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pack is not halved for them."""
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(packs, "stacked_losses", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        next(train_pack(RECIPE, RUNS))
    assert len(calls) == 1


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation for which the host would wait for a GPU."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "item")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.WAITING:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("members", [1, 4])
def test_a_step_does_not_wait_for_the_device(
    members: int,
) -> None:
    """Drawing the batch aside, which is done on the CPU; a number that is read would be seen."""
    pack = Pack(RECIPE, RUNS[:members])
    pack.advance(1)
    pack._data[RUNS[0].seed].batch(2)
    with Waits() as waits:
        pack.advance(2)
    assert waits.found == []
    with waits:
        float(pack.stacks[0].state.weights[0, 0])
    assert waits.found == ["_local_scalar_dense"]


def test_few_sizes_are_compiled(
    alone: list[list[Measurement]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole, a half and one member: what is left is padded, and trains as it would alone."""
    sizes: list[int] = []

    def losses(model: Any, layout: Any, rows: Tensor, *others: Any) -> Tensor:
        sizes.append(len(rows))
        return stacked_losses(model, layout, rows, *others)

    monkeypatch.setattr(packs, "_compiled", lambda: losses)
    recipe = replace(RECIPE, compiled=True)
    found = curves(drive(train_pack(recipe, RUNS), {2: 0, 4: 1, 6: 2}))
    assert list(dict.fromkeys(sizes)) == [4, 2, 1]
    for curve, expected in zip(found, alone, strict=True):
        assert_alike(curve, expected[: len(curve)])


def test_padding_takes_data_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members of other seeds than the one that stands for those who left lose nothing."""
    monkeypatch.setattr(packs, "_compiled", lambda: stacked_losses)
    runs = [replace(run, seed=number) for number, run in enumerate(RUNS)]
    recipe = replace(RECIPE, evaluations=2, development=0)
    rows = [
        drive(train_pack(replace(recipe, compiled=padding), runs), {1: 0})
        for padding in (True, False)
    ]
    for found, expected in zip(*map(curves, rows), strict=True):
        assert_alike(found, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_pack_can_be_compiled() -> None:
    """The compiler takes in the stacked losses as one graph, of the same numbers."""
    pack = Pack(RECIPE, RUNS[:2])
    pack.advance(1)
    (stack,) = pack.stacks
    batch = Batch.of([pack._data[RUNS[0].seed].batch(2)] * 2)
    structure, fractions = stack.structure, RECIPE.mixture
    given = (structure.model, structure.layout, stack.state.weights, batch, fractions)
    traced = torch.compile(stacked_losses, backend="eager", dynamic=False, fullgraph=True)
    assert traced(*given) == pytest.approx(stacked_losses(*given), rel=1e-5)


def test_autocast_is_the_same_alone_and_together(alone: list[list[Measurement]]) -> None:
    """In bfloat16 the losses are near those in float32, and not equal to them."""
    exact = [m.loss for m in alone[0]]
    half = replace(RECIPE, autocast=True, development=0)
    by_itself = [m.loss for m in half(RUNS[0])]
    together = [m.loss for m in curves(list(train_pack(half, RUNS[:2])))[0]]
    assert by_itself != exact
    assert by_itself == pytest.approx(exact, rel=0.02)
    assert together == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": Scale(32, 2, 2, 5_760)}, r"more than one scale, .*width=16.*width=32"),
        ({"settings": "relaxed"}, "more than one settings, target and relaxed: pack those"),
        ({"device": "meta"}, "more than one device, cpu and meta"),
    ],
)
def test_runs_that_cannot_be_packed(changes: dict[str, Any], message: str) -> None:
    """It is said what differs."""
    with pytest.raises(ValueError, match=message):
        Pack(RECIPE, [*RUNS, replace(RUNS[0], **changes)])
    with pytest.raises(ValueError, match="no runs: give at least one"):
        Pack(RECIPE, [])
