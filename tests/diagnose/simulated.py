"""Runs whose scores were drawn: classifiers right as often as they are told to be."""

import numpy as np

from whytransfer.diagnose.analysis import ClassRun


def class_runs(rates, num_images=400, seeds=(0, 1, 2), draw=0, spread=0.0):
    """Returns a run per (arm, variant) of ``rates`` and seed.

    Args:
        rates: (arm, variant) → how often it is right, in [0, 1].
        draw: Which of the simulations it is.
        spread: Standard deviation of the rate over seeds, which an arm's variants do not share.

    A picture is as hard for one run as for another, so that runs are paired over images.
    """
    hard = np.random.default_rng([draw, 0]).uniform(size=num_images)
    images = tuple(f"{index:04d}" for index in range(num_images))
    runs = []
    for number, ((arm, variant), rate) in enumerate(rates.items()):
        for seed in seeds:
            generator = np.random.default_rng([draw, 1 + number, seed])
            own = rate + spread * generator.normal()
            noise = 0.2 * generator.normal(size=num_images)
            cut = np.quantile(hard + noise, np.clip(own, 0, 1)) if own > 0 else -np.inf
            correct = hard + noise < cut
            runs.append(ClassRun(arm, seed, f"{arm}{seed}{variant}", images, correct, variant))
    return runs
