"""``critical search``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from critical.cli.output import Output


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(search)


def search(
    budget: Annotated[
        str | None, Option(help="A number and a unit: 64gpu-h, 30gpu-min, 10cpu-min, 200trials.")
    ] = None,
    repeat: Annotated[
        str | None, Option(help="Run a stored search again, as it was: the name of its study.")
    ] = None,
    target: Annotated[
        Path | None, Option(help="config.json of the model that you are about to train.")
    ] = None,
    study: Annotated[str | None, Option(help="Name of the study; by default the target's.")] = None,
    storage: Annotated[
        str | None, Option(help="Store, as sqlite:///critical.db (also CRITICAL_STORAGE).")
    ] = None,
    trainable: Annotated[
        str | None, Option(help="A trial of your own: FILE.py:NAME or module:NAME.")
    ] = None,
    widths: Annotated[str | None, Option(help="Widths of the proxies, as 32,64.")] = None,
    rule: Annotated[
        str | None, Option(help="Which γ is critical: balance (default), knee or floor=0.95.")
    ] = None,
    interval: Annotated[str | None, Option(help="γ to search, 0.3,1.2 by default.")] = None,
    lr: Annotated[str | None, Option(help="A learning rate, or a ladder: 1e-3,2e-3,4e-3.")] = None,
    weight_decay: Annotated[
        float | None, Option(help="At learning rate 4e-3; lr · decay is held constant.")
    ] = None,
    tokens: Annotated[int | None, Option(help="Training tokens of a proxy run.")] = None,
    batch: Annotated[int | None, Option(help="Tokens of a training step.")] = None,
    workers: Annotated[
        int | None, Option(help="Trials at once; 0 runs them in this process, without Ray.")
    ] = None,
    pack: Annotated[
        str | None,
        Option(help="Trials that a worker trains together, a number; auto: several on a GPU."),
    ] = None,
    seed: Annotated[int | None, Option(help="First seed.")] = None,
    corpus: Annotated[
        Path | None,
        Option(help="Your own text: a file or a folder of them, JSONL too; or token ids, a .bin."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        Option(help="tokenizer.json for the text, else bytes; many ids make every step dearer."),
    ] = None,
    text_field: Annotated[
        str | None, Option(help="What holds the text in a JSONL file's objects; text.")
    ] = None,
    token_bytes: Annotated[int | None, Option(help="Bytes of an id in a .bin: 2, or 4.")] = None,
    vocabulary: Annotated[
        int | None, Option(help="Number of ids of a .bin; by default up to its greatest.")
    ] = None,
    mixture: Annotated[
        str | None,
        Option(
            help="Shares of the sources: reasoning=0.65,memory=0.1,text=0.25; "
            "there are also keys, symmetric, deduction and addition."
        ),
    ] = None,
    convention: Annotated[
        str | None, Option(help="fan_in: each matrix by its own; width: d_model for all.")
    ] = None,
    slope_sd: Annotated[
        float | None, Option(help="Prior sd of γ*'s slope per octave of width; 0.03.")
    ] = None,
    settings: Annotated[
        str | None,
        Option(help="To search side by side: target (default), relaxed, carried, with commas."),
    ] = None,
    proxy: Annotated[
        str | None, Option(help="built-in (default), or hf: the target's own architecture.")
    ] = None,
    precision: Annotated[
        float | None, Option(help="Stop once the expected loss of share at γ* is under this.")
    ] = None,
    sampler: Annotated[str | None, Option(help="gp (default) or random.")] = None,
    compile: Annotated[
        str | None,
        Option(help="Compile training steps: auto (where it pays on a CPU), on or off."),
    ] = None,
    ray_address: Annotated[str | None, Option(help="A running Ray cluster to use.")] = None,
    work_dir: Annotated[
        Path | None,
        Option(help="For token files, checkpoints and Ray; critical-work by default."),
    ] = None,
    retries: Annotated[
        int | None, Option(help="How often a trial goes on after its worker died or hung; 2.")
    ] = None,
    backoff: Annotated[
        float | None, Option(help="Seconds before it goes on, doubled each time; 1.")
    ] = None,
    patience: Annotated[
        float | None,
        Option(help="Seconds without a measurement before a trial can count as hanging; 300."),
    ] = None,
    max_failures: Annotated[
        int | None, Option(help="Failed trials in a row that end the search; 10.")
    ] = None,
    config: Annotated[
        Path | None, Option(help="A critical.toml that holds any of these options.")
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan; run nothing.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Plan, run and locate γ*, and recommend. The same command again resumes.

    With --repeat the trials of a stored search are run again, and compared with what they were.
    """
    given: dict[str, Any] = dict(locals())
    shown = Output(as_json=given.pop("as_json"))
    del given["config"], given["dry_run"]
    from critical.options import load_request

    request = load_request(given, os.environ, config)
    from critical.cli.searching import print_plan, run_and_print

    if dry_run:
        print_plan(request, shown)
    else:
        run_and_print(request, shown)
