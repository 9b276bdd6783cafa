"""Layouts of foreign checkpoints: one module per family, which says whose keys are whose.

A layout is a table: ``matches(keys)`` says whether a checkpoint is of this family, and
``rename(key)`` gives torchvision's name of an entry, or ``None`` for what is no part of the
backbone. A key that it does not know it must return as it is, so that the loader reports it.
"""
