"""The built-in trial: repeatable to the bit, paired over γ and rate, and it learns."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from critical.trials import Measurement, ProxyRun, Scale
from critical.trials.architecture import Architecture
from critical.trials.corpus import Corpus
from critical.trials.mixture import Group, Mixture
from critical.trials.text_files import FEWEST_BYTES
from critical.trials.training import ProxyTraining, TrainingRecipe, train
from critical.trials.watch import FEWEST_MEASUREMENTS, watch

Make = Callable[..., ProxyRun]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """Every batch that is trained from here on."""
    seen: list[list[Tensor]] = []
    draw = Mixture.batch

    def record(self: Mixture, step: int) -> list[Group]:
        groups = draw(self, step)
        seen.append([tensor for g in groups for tensor in (g.tokens, g.targets)])
        return groups

    monkeypatch.setattr(Mixture, "batch", record)
    return seen


def optimizer_of(recipe: TrainingRecipe, run: ProxyRun) -> torch.optim.Optimizer:
    """The optimizer that a run trains with."""
    return ProxyTraining(recipe, run)._optimizer


def test_the_same_run_is_the_same_to_the_bit(recipe: TrainingRecipe, tiny: Make) -> None:
    """Whatever the global random state, and after a trip through pickle."""
    torch.manual_seed(1)
    first = list(recipe(tiny()))
    torch.manual_seed(2)
    assert list(pickle.loads(pickle.dumps(recipe))(pickle.loads(pickle.dumps(tiny())))) == first


def test_seeds_differ_in_everything(
    recipe: TrainingRecipe, tiny: Make, batches: list[list[Tensor]]
) -> None:
    """Another seed has other weights, batches and validation items from the first step on."""
    models = []
    for seed in (0, 1):
        training = ProxyTraining(recipe, tiny(seed=seed))
        models.append(training._model.get_parameter("head.weight").detach().clone())
        training.advance(1)
    one, other = batches
    assert not torch.equal(models[0], models[1])
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "changes", [{"gamma": 1.1}, {"learning_rate": 2e-2}, {"scale": Scale(32, 2, 2, 8_000)}]
)
def test_the_data_are_the_same_for_every_gamma_rate_and_width(
    changes: dict[str, object], recipe: TrainingRecipe, tiny: Make, batches: list[list[Tensor]]
) -> None:
    """Trials of one seed see the same batches in the same order."""
    for run in (tiny(), tiny(**changes)):
        assert len(list(recipe(run))) == recipe.evaluations
    half = len(batches) // 2
    assert half > recipe.evaluations - 1
    for one, other in zip(batches[:half], batches[half:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("tokens", [1, 8_000, 20_000])
def test_there_are_forty_evaluations_and_the_last_is_at_the_end(
    tokens: int, recipe: TrainingRecipe, tiny: Make
) -> None:
    """Strictly growing tokens, also where the run is too short for forty steps."""
    run = tiny(scale=Scale(16, 1, 2, tokens))
    seen = [m.tokens for m in recipe(run)]
    assert len(seen) == recipe.evaluations >= 40
    assert all(before < after for before, after in pairwise(seen))
    per_step = seen[0]
    assert seen[-1] == per_step * ProxyTraining(recipe, run).steps
    if tokens > 40 * per_step:
        assert seen[-1] == pytest.approx(tokens, abs=per_step / 2)


def test_the_smallest_corpus_trains(corpus: Corpus, tiny: Make) -> None:
    """Its validation part of 205 tokens holds windows of 65, and text alone is learned."""
    assert corpus.tokens == FEWEST_BYTES
    recipe = TrainingRecipe(corpus, {"reasoning": 0.05, "text": 0.95}, batch_tokens=512)
    curve = list(recipe(tiny(scale=Scale(16, 1, 2, 60_000), learning_rate=2e-2)))
    assert curve[-1].extras["loss_text"] < 0.6 * curve[0].extras["loss_text"]


def test_training_reduces_the_loss(tasks_only: TrainingRecipe, tiny: Make) -> None:
    """From a uniform guess over the vocabulary to one over the items, in seconds."""
    curve = list(tasks_only(tiny(scale=Scale(32, 1, 2, 40_000), learning_rate=1e-2)))
    assert curve[0].loss == pytest.approx(math.log(384), rel=0.1)
    assert curve[-1].loss < math.log(80) + 0.1
    assert all(0 <= m.reasoning <= 1 for m in curve)
    assert {"loss_reasoning", "loss_memory", "trained_accuracy"} <= curve[-1].extras.keys()


@pytest.mark.parametrize("rate", [1e4, 1e12])
def test_a_diverging_rate_ends_the_run(rate: float, recipe: TrainingRecipe, tiny: Make) -> None:
    """At its first measurement, with a loss that is not finite; ``watch`` says so."""
    run = tiny(learning_rate=rate)
    curve = list(recipe(run))
    assert len(curve) < FEWEST_MEASUREMENTS
    assert not math.isfinite(curve[-1].loss)
    assert [w.diverged for w in watch(recipe, run)] == [False] * (len(curve) - 1) + [True]


@pytest.mark.parametrize("rate", [None, 1e-3, 4e-3, 3e-2])
def test_rate_times_decay_is_constant(
    rate: float | None, recipe: TrainingRecipe, tiny: Make
) -> None:
    """Along the whole ladder, and norm gains never decay."""
    matrices, gains = optimizer_of(recipe, tiny(learning_rate=rate)).param_groups
    product = recipe.weight_decay * recipe.base_learning_rate
    assert matrices["lr"] * matrices["weight_decay"] == pytest.approx(product)
    assert gains["weight_decay"] == 0
    assert all(p.ndim >= 2 for p in matrices["params"])
    assert all(p.ndim == 1 for p in gains["params"])


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_the_rate_is_constant_after_the_warmup(
    warmup: int, recipe: TrainingRecipe, tiny: Make
) -> None:
    """It rises linearly to its peak; no warmup at all is allowed."""
    training = ProxyTraining(replace(recipe, warmup_steps=warmup), tiny(learning_rate=1e-3))
    rates = []
    for step in range(1, 7):
        training.advance(step)
        rates.append(training._optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3 * min(1, s / max(1, warmup)) for s in range(1, 7)])


def test_a_fraction_of_zero_trains_as_if_left_out(tasks_only: TrainingRecipe, tiny: Make) -> None:
    """The loss is weighted by the sources that are there."""
    with_zero = replace(tasks_only, mixture={**tasks_only.mixture, "text": 0.0})
    assert list(with_zero(tiny())) == list(tasks_only(tiny()))


def test_measuring_does_not_disturb_training(tasks_only: TrainingRecipe, tiny: Make) -> None:
    """A run that is evaluated more often ends with the same measurement."""
    often = replace(tasks_only, evaluations=50)
    run = tiny(scale=Scale(16, 1, 2, 9_000))
    last: list[Measurement] = [list(recipe(run))[-1] for recipe in (tasks_only, often)]
    assert last[0] == last[1]


def test_train_yields_as_it_goes(
    recipe: TrainingRecipe, tiny: Make, batches: list[list[Tensor]]
) -> None:
    """A search that stops a run early does not pay for its end."""
    measurements = train(recipe, tiny(scale=Scale(16, 1, 2, 10**6)))
    first = next(measurements)
    assert first.tokens == len(batches) * ProxyTraining(recipe, tiny())._mixture.tokens_per_step
    assert len(batches) < 60


@pytest.mark.parametrize(
    ("width", "ratio", "feed_forward"), [(64, 8 / 3, 168), (32, 4, 128), (16, 0.1, 8)]
)
def test_the_shape_follows_the_recipe(
    width: int, ratio: float, feed_forward: int, recipe: TrainingRecipe, tiny: Make
) -> None:
    """The feed-forward dimension is a multiple of 8 in the target's proportion, ε as given."""
    architecture = Architecture(feed_forward_ratio=ratio, norm_eps=1e-5, tied=True)
    shaped = replace(recipe, architecture=architecture)
    shape = shaped.shape(tiny(scale=Scale(width, 3, 2, 1)))
    assert (shape.width, shape.depth, shape.heads) == (width, 3, 2)
    assert shape.feed_forward == feed_forward
    assert shape.norm_eps == 1e-5
    assert shape.tied
