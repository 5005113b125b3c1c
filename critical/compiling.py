"""Whether the built-in trial compiles its training steps: one choice for a whole study."""

from __future__ import annotations

from dataclasses import replace

from critical.errors import OptionError
from critical.plan import Plan, expected_trials
from critical.preparation import Prepared
from critical.trials.training import TrainingRecipe

_AT_EVERY_GAMMA = "carried"
"""Settings that would be compiled anew for every trial."""
_NEEDED = "a C++ compiler (g++) and the headers of Python"


def compiles(prepared: Prepared, plan: Plan) -> bool:
    """Choose for a new study: as the user says, else where it pays on a CPU.

    It pays where every process trains long enough at each shape, see ``trials.compiling.pays``.
    On a GPU nothing has been measured, so that it is left to the user there.

    Raises:
        OptionError: It is wanted, and this machine cannot.
    """
    options = prepared.options
    if not isinstance(prepared.trainable, TrainingRecipe) or options.compile == "off":
        return False
    if _AT_EVERY_GAMMA in options.settings:
        if options.compile == "on":
            raise OptionError(
                f"--compile on cannot be had with --settings {_AT_EVERY_GAMMA}, whose ε, and with "
                "it the compiled code, is another at every γ: leave one of the two out"
            )
        return False
    from critical.trials.compiling import available, pays

    if options.compile == "on":
        if not available(prepared.device):
            raise OptionError(
                f"--compile on needs {_NEEDED}, which this machine has not: install them, or "
                "leave --compile out"
            )
        return True
    known = prepared.device == "cpu" and prepared.trainable.model == "built-in"
    return known and pays(_least_seconds(prepared, plan)) and available()


def check_compiling(study: str, plan: Plan, prepared: Prepared) -> None:
    """Refuse to go on with a study otherwise than it was begun.

    Raises:
        OptionError: ``--compile`` says otherwise, or the study needs what this machine has not.
    """
    wanted = prepared.options.compile
    if wanted != "auto" and plan.compiled != (wanted == "on"):
        began, had = ("with", "on") if plan.compiled else ("without", "off")
        raise OptionError(
            f"study {study!r} was begun {began} compiling: give --compile {had} or leave it out, "
            "or another name with --study"
        )
    if plan.compiled:
        from critical.trials.compiling import available

        if not available(prepared.device):
            raise OptionError(
                f"study {study!r} was begun with compiled training steps, which needs {_NEEDED}: "
                "install them, or begin another --study with --compile off"
            )


def as_planned(prepared: Prepared, plan: Plan) -> Prepared:
    """Return what was prepared with the trial as the plan has it."""
    if not isinstance(prepared.trainable, TrainingRecipe):
        return prepared
    return replace(prepared, trainable=replace(prepared.trainable, compiled=plan.compiled))


def _least_seconds(prepared: Prepared, plan: Plan) -> float:
    """Return what a process trains, uncompiled, at the shape that has the least of it."""
    trials = expected_trials(plan, prepared.budget)
    each = [(trials[arm.name] or 0) * (arm.trial_cost or 0.0) for arm in plan.arms]
    return min(each) / max(1, prepared.workers)
