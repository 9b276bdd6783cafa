"""Learning rates as the reference code sets them, written out plainly."""

import math


def moco_cosine(base_lr, epoch, epochs):
    """main_moco.py, adjust_learning_rate, --cos: called once as each epoch begins."""
    return base_lr * 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))


def moco_steps(base_lr, epoch, milestones):
    """main_moco.py, adjust_learning_rate without --cos."""
    lr = base_lr
    for milestone in milestones:
        lr *= 0.1 if epoch >= milestone else 1.0
    return lr


def detectron2_warmup_multistep(base_lr, iteration, milestones, warmup_iters, warmup_factor):
    """solver/lr_scheduler.py, WarmupMultiStepLR with the linear method."""
    if iteration < warmup_iters:
        alpha = iteration / warmup_iters
        warmup = warmup_factor * (1 - alpha) + alpha
    else:
        warmup = 1.0
    lr = base_lr * warmup
    for milestone in milestones:
        if iteration >= milestone:
            lr *= 0.1
    return lr


def mmcv_poly(base_lr, iteration, max_iters, power, min_lr):
    """runner/hooks/lr_updater.py, PolyLrUpdaterHook.get_lr, by iteration."""
    share = (1 - iteration / max_iters) ** power
    return (base_lr - min_lr) * share + min_lr
