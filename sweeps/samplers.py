"""Optuna's samplers and pruners from a study's settings."""

import optuna

from sweeps.settings import Sweep


def build_sampler(sweep: Sweep, worker: int = 0, trials: int = 0) -> optuna.samplers.BaseSampler:
    """``worker`` and ``trials`` (that the study has already): no two workers draw the same, and a study that goes on
    does not draw again what it began with."""
    spec = sweep.sampler
    seed = (spec.seed * 1_000_003 + worker * 10_007 + trials) % 2**32
    match spec.kind:
        case "tpe":
            # By groups: choices that are made together are modelled together, also where others are not made.
            return optuna.samplers.TPESampler(n_startup_trials=spec.startup, seed=seed, multivariate=True, group=True)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=spec.startup, seed=seed)
        case "gp":
            return optuna.samplers.GPSampler(n_startup_trials=spec.startup, seed=seed, warn_independent_sampling=False)
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)


def build_pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    """None of Optuna's prunes several objectives."""
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
