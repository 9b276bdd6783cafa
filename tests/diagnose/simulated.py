"""Runs whose scores were drawn: classifiers right as often as they are told to be."""

from statistics import NormalDist

import numpy as np

from whytransfer.diagnose.analysis import ClassRun, PointRun


def class_runs(rates, num_images=1500, seeds=(0, 1, 2), draw=0, spread=0.0):
    """Returns a run per (arm, variant) of ``rates`` and seed.

    Args:
        rates: (arm, variant) → how often it is right, in [0, 1].
        draw: Which of the simulations it is.
        spread: Standard deviation of the rate over seeds, which an arm's variants do not share.

    A picture is about as hard for one run as for another, so that runs are paired over images; how
    often a run is right on the pictures at hand moves about its rate as chance has it.
    """
    hard = np.random.default_rng([draw, 0]).normal(size=num_images)
    images = tuple(f"{index:04d}" for index in range(num_images))
    runs = []
    for number, ((arm, variant), rate) in enumerate(rates.items()):
        for seed in seeds:
            generator = np.random.default_rng([draw, 1 + number, seed])
            own = NormalDist().inv_cdf(min(0.999, max(0.001, rate + spread * generator.normal())))
            felt = 0.8 * hard + 0.6 * generator.normal(size=num_images)
            runs.append(ClassRun(arm, seed, f"{arm}{seed}{variant}", images, felt < own, variant))
    return runs


def point_runs(rates, **kwargs):
    """The same as regressors of landmarks: who is right is off by 5 %, who is wrong by 15."""
    return [
        PointRun(
            run.arm, run.seed, run.fingerprint, run.images, np.where(run.correct, 5.0, 15.0),
            run.variant,
        )
        for run in class_runs(rates, **kwargs)
    ]  # fmt: skip
