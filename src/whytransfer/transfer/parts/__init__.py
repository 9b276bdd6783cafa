"""The parts that downstream tasks are assembled from.

torchvision is imported where it is called, not at the top: it costs seconds, and a study is
planned, or found to be finished, without it.
"""
