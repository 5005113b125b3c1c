"""From ``--repeat STUDY`` to a search that can start: a new study, made from what STUDY stored.

Options, target, plan and seeds are those that the store has, not what files hold by now; only the
work directory and the Ray cluster are this command's own. Its trials are STUDY's, each again, see
``repetition``; what STUDY gains later, the same command runs.

The budget is STUDY's, unit and total, so that what the repeat spends can be compared with it; but
it ends nothing. A repeat that costs more, on a slower machine or one that is busy, is run to its
end and charged, beyond its total if need be: half of it would compare nothing.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

from critical.budget import Budget
from critical.errors import OptionError
from critical.identity import check_repeatable, repeated_by
from critical.options import RepeatOptions, SearchOptions, check_options
from critical.plan import Plan
from critical.preparation import Prepared, prepare_search, resolve
from critical.repetition import original_of
from critical.storage.records import StudyRecord
from critical.storage.store import Store
from critical.targets.target import Target

_HERE = ("work_dir", "ray_address")
"""Where trials run: a matter of this command's machine, and nothing that a store may decide."""
_LONGEST = 100
"""Characters of a study's name, as ``--study`` takes it."""


def prepare_request(request: SearchOptions | RepeatOptions) -> Prepared:
    """Prepare what the command line asks for: a search, or the repeat of one.

    Raises:
        CriticalError: As ``prepare_search`` and ``prepare_repeat``.
        StoreError: So.
        TrialError: So.
    """
    if isinstance(request, SearchOptions):
        return prepare_search(request)
    return prepare_repeat(request)


def prepare_repeat(request: RepeatOptions) -> Prepared:
    """Look a study up and prepare to run its trials again, under the name of a repeat.

    Raises:
        StoreError: There is no such store or study.
        OptionError: None of its trials has ended, its options give another trial now, a file that
            they name is gone, or it needs a GPU that is not here.
        TrialError: The corpus or the trainable cannot be loaded.
    """
    with Store.open(request.storage, create=False) as store:
        study = store.study(request.repeat)
        original = original_of(study, store.trials(study.id))
        name = request.study or _free_name(store, study.name)
        place = store.place
    if not original.trials:
        raise OptionError(
            f"study {study.name!r} in {place} has no trial that has ended, so there is nothing to "
            "repeat: let it run first"
        )
    target = None if study.target is None else Target.from_document(study.target)
    budget = Budget(study.budget_total, study.budget_unit)
    options = _options(study, request)
    _check_files(study, options)
    prepared = resolve(options, name, budget, target, _device(study), original)
    check_repeatable(study, prepared.identity, place)
    return prepared


def _options(study: StudyRecord, request: RepeatOptions) -> SearchOptions:
    """The stored options under those of the command line, which change no trial."""
    given = request.model_dump(include=request.model_fields_set - {"repeat"})
    own = {"study": request.study, "storage": request.storage}
    stored = {name: each for name, each in study.options["given"].items() if name not in _HERE}
    # Where the trainable was found, for the folder that it was named from may be another one.
    trainable = {"trainable": study.options["identity"]["trainable"]}
    try:
        return check_options({**stored, **trainable, **given, **own})
    except OptionError as error:
        raise OptionError(
            f"study {study.name!r} was stored by another version of Critical ({error}): "
            "repeat it with that version"
        ) from error


def _check_files(study: StudyRecord, options: SearchOptions) -> None:
    """Refuse what is gone; the sentences of a search would ask for options that a repeat lacks."""
    place = (options.trainable or "").rpartition(":")[0]
    if place.endswith(".py") and not Path(place).is_file():
        raise OptionError(
            f"trainable {place} of study {study.name!r} does not exist any more: put it back"
        )
    for name, path in (("corpus", options.corpus), ("tokenizer", options.tokenizer)):
        if path is not None and not path.exists():
            raise OptionError(
                f"{name} {path} of study {study.name!r} does not exist here: put it back, or "
                "repeat the study in the folder that it was run in"
            )


def _device(study: StudyRecord) -> str:
    """Return what the original ran on, for another device comes to other numbers."""
    device = Plan.from_document(study.plan).device
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise OptionError(
                f"study {study.name!r} ran on a GPU and none was found: "
                "repeat it on a machine that has one"
            )
    return device


def _free_name(store: Store, original: str) -> str:
    """Return the name of the repeat that there is, or the first one that is not taken."""
    endings = ("-repeat" if number == 1 else f"-repeat{number}" for number in count(1))
    names = (original[: _LONGEST - len(ending)] + ending for ending in endings)
    return next(name for name in names if _is_free(store, name, original))


def _is_free(store: Store, name: str, original: str) -> bool:
    found = store.find_study(name)
    return found is None or repeated_by(found) == original
