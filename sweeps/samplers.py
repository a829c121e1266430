"""Builds a study's Optuna sampler and pruner."""

from typing import assert_never

import optuna

from sweeps.settings import Sweep


def build_sampler(sweep: Sweep, worker: int = 0, trials: int = 0) -> optuna.samplers.BaseSampler:
    """Build a worker's sampler.

    Args:
        sweep: The study's settings.
        worker: Index of the worker. It is part of the seed, so workers draw different numbers.
        trials: Number of trials already in the study. It is part of the seed, so a resumed study does not repeat its
            first draws.
    """
    spec = sweep.sampler
    seed = (spec.seed * 1_000_003 + worker * 10_007 + trials) % 2**32
    match spec.kind:
        case "tpe":
            # With group=True, parameters that occur together are modeled jointly, even if some trials lack them.
            return optuna.samplers.TPESampler(n_startup_trials=spec.startup, seed=seed, multivariate=True, group=True)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=spec.startup, seed=seed)
        case "gp":
            return optuna.samplers.GPSampler(n_startup_trials=spec.startup, seed=seed, warn_independent_sampling=False)
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)
        case _:
            assert_never(spec.kind)


def build_pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    """Build the study's pruner. Optuna's pruners support only a single objective."""
    spec = sweep.pruner
    if spec is None:
        return optuna.pruners.NopPruner()
    match spec.kind:
        case "asha":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=spec.least_steps, reduction_factor=spec.reduction
            )
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=spec.least_steps, max_resource=sweep.budget.steps[0], reduction_factor=spec.reduction
            )
        case _:
            assert_never(spec.kind)
