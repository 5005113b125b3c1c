"""Running a search's trials through Ray Tune: on all cores, one thread each, or on GPUs."""

from __future__ import annotations

import logging
import os
from contextlib import redirect_stdout
from pathlib import Path

from critical.running.ray_processes import ray_processes
from critical.running.search import Search
from critical.trials import Trainable

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run_on_ray(search: Search, trainable: Trainable, address: str | None = None) -> None:
    """Run trials until the search has nothing left to do, or is told to stop.

    Args:
        search: Says what to run, and stores what comes of it.
        trainable: The trial; pickled once and sent to the workers.
        address: Of a running Ray cluster, or None to start a local one for this run.

    Raises:
        RunError: One trial after another has failed.
        StoreError: The store cannot be written any more.
        KeyboardInterrupt: The user does not wait; running trials are stored as interrupted.
    """
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    plan = search.plan
    with ray_processes(plan.workers, address):
        from ray import tune

        from critical.running.deaths import DeathNotes, Undertaker
        from critical.running.searcher import TuneSearcher
        from critical.trials.trainable import RayTrial

        # What a trial died of is stored and said in one sentence; Tune would print its traceback.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        searcher = TuneSearcher(search)
        held = {"cpu": 1, "gpu": 1 if plan.device == "cuda" else 0}
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(RayTrial, trial=trainable), held),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=DeathNotes(searcher),
                num_samples=-1,
                max_concurrent_trials=plan.workers,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(search.folder.ray),
                verbose=0,
                callbacks=[Undertaker(searcher)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            # Ray prints what its processes die of, at length; here it is stored, in a sentence.
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                tuner.fit()
        except Exception as error:
            searcher.error = searcher.error or error
        finally:
            searcher.stop_running()
        if searcher.error is not None:
            raise searcher.error
