"""Ray Tune with its OptunaSearch, two trials at a time on one core each.

    PYTHONPATH=. ENVIRONMENT/bin/python bench/peers/ray_tune.py --data digits --trials 4 --epochs 5 --folder EMPTY

It needs the environment of requirements-ray.txt, which bench/peers/environments.py makes. Ray starts before the clock.
The imports of its worker processes count, because the sweep waits for them. The processes are kept from trial to trial
(`reuse_actors`, off by default), which is faster.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from bench.peers.side import Clock, Settings, run
from bench.peers.space import draw, suggest
from bench.peers.training import prepare, train

CONCURRENT = 2


def define(trial: object, *, data: str) -> None:
    """Suggest as OptunaSearch wants it done: what it returned would be added to the parameters as constants."""
    suggest(trial, data)


@contextmanager
def local_ray(threads: int | None) -> Iterator[None]:
    """Start Ray on this machine, and stop it."""
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # otherwise Ray sets it to a trial's one core
    # A socket's path is short, so Ray's folder is not below ours.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        ray.init(num_cpus=CONCURRENT, include_dashboard=False, logging_level=logging.ERROR, _temp_dir=folder)
        try:
            yield
        finally:
            ray.shutdown()


def sweep(settings: Settings, clock: Clock) -> float:
    def trial(parameters: dict[str, object]) -> None:
        tune.report({"acc": train(parameters, settings, name=tune.get_context().get_trial_name())})

    prepare(settings.folder)
    drawn = draw(settings.data, settings.trials, settings.seed) if settings.same else None
    search = OptunaSearch(
        partial(define, data=settings.data), metric="acc", mode="max", seed=settings.seed, points_to_evaluate=drawn
    )
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=search, num_samples=settings.trials, max_concurrent_trials=CONCURRENT, reuse_actors=True
        ),
        run_config=tune.RunConfig(name="bench", storage_path=str(settings.folder / "ray"), verbose=0),
    )
    with local_ray(settings.threads), clock.running():
        results = tuner.fit()
    if results.errors:
        raise results.errors[0]
    return results.get_best_result("acc", "max").metrics["acc"]


if __name__ == "__main__":
    run(sweep, __doc__)
