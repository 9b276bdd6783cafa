"""What every analysis must do; a new file in ``diagnose/analyses`` is tested as it is.

What is planted for it lies in ``tests/diagnose/planted/NAME.py``: ``cause(folder)`` and
``null(folder)`` return runs, data and settings; the folder is theirs to write images into.
"""

import copy
import importlib
from typing import get_args

import numpy as np
import pytest
import torch

from whytransfer.core import plugins
from whytransfer.core.records import Finding
from whytransfer.diagnose.analysis import Kind

NAMES = plugins.names("analysis")


def planted(name, which, folder):
    """Returns the module and what is planted for it; fails where nothing is."""
    (folder / "data").mkdir(exist_ok=True)
    module = importlib.import_module(f"tests.diagnose.planted.{name}")
    return plugins.find("analysis", name), *getattr(module, which)(folder / "data")


def content(run):
    """All that a run holds, as it can be compared: arrays and the weights of networks."""
    found = {}
    for field, value in vars(run).items():
        if callable(value):
            found |= {f"{field}.{k}": v.clone() for k, v in value().state_dict().items()}
        elif hasattr(value, "__dict__"):
            found |= {f"{field}.{k}": copy.deepcopy(v) for k, v in vars(value).items()}
        else:
            found[field] = value
    return found


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    return np.array_equal(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_it_asks_a_question_and_says_what_it_needs(name):
    module = plugins.find("analysis", name)
    assert module.QUESTION.endswith("?")
    assert module.NEEDS in get_args(Kind)


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_cause_is_found_and_a_planted_null_is_not(name, tmp_path):
    module, *cause = planted(name, "cause", tmp_path)
    _, *null = planted(name, "null", tmp_path)
    caused, nothing = module.answer(*cause, tmp_path), module.answer(*null, tmp_path)
    assert caused.headline.low > 0 or caused.headline.high < 0
    assert nothing.headline.low <= 0 <= nothing.headline.high
    assert "no difference shown" in nothing.answer.lower()
    for finding in (caused, nothing):
        assert finding.caveat and finding.question == module.QUESTION
        assert Finding.model_validate_json(finding.model_dump_json()) == finding


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_as_they_were_and_the_answer_is_repeatable(name, tmp_path):
    module, runs, data, config = planted(name, "cause", tmp_path)
    before = [content(run) for run in runs]
    assert module.answer(runs, data, config, tmp_path) == module.answer(
        runs, data, config, tmp_path
    )
    for run, kept in zip(runs, before, strict=True):
        now = content(run)
        for field, value in kept.items():
            assert same(value, now[field]), field
