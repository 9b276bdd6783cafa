"""Layouts of foreign checkpoints: one module per family, which says whose keys are whose.

A layout is a table: ``matches(keys)`` says whether a checkpoint is of this family, and
``rename(key)`` gives torchvision's name of a ResNet's entry or timm's of a vision transformer's, or
``None`` for what is no part of the backbone. A key that it does not know it must return as it is,
so that the loader reports it. A family whose transformers have other than 64 channels to a head
says so with ``HEADS``, channels → heads.
"""
