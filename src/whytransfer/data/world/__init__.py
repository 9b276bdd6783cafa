"""The procedural world: pictures whose every cause is known. Each public module is one maker.

A maker provides ``Config``, ``write(root, config, seed)``, ``FORMAT`` (the on-disk format it
writes) and ``DATASET`` (the fields that a reader of it needs beside the folder); one that can
write several layouts provides ``dataset(config)`` as well, those fields for a configuration.
"""
