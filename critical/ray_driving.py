"""Running a search's trials through Ray Tune: on all cores, one thread each, or on GPUs.

Local Ray listens on every interface, and whoever reaches it runs code: it is started with a fresh
token, so that nobody else can join, and without its dashboard.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from critical.search import Search
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
    with _ray(plan.workers, address):
        from ray import tune

        from critical.deaths import DeathNotes, Undertaker
        from critical.searcher import TuneSearcher
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
            tuner.fit()
        finally:
            searcher.stop_running()
    if searcher.error is not None:
        raise searcher.error


@contextmanager
def _ray(workers: int, address: str | None) -> Iterator[None]:
    """Join a cluster, or start one of our own behind a token that is nobody else's."""
    if address is None:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    if address is None:
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    else:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()
