"""Training: one visible loop, its schedule, its checkpoints and its normalisation layers."""
