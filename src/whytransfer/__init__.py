"""whytransfer: which pretraining transfers best to my task, and why?"""

__version__ = "0.1.0"
