"""What every analysis must do; a new file in ``diagnose/analyses`` is tested as it is."""

import copy

import numpy as np
import pytest
from tests.ops.planted_scenes import perfect, planted_truth, shifted

from whytransfer.core import plugins
from whytransfer.core.records import Finding
from whytransfer.diagnose.analysis import DetectionRun

TRUTH = planted_truth(24)
GOOD = perfect(TRUTH)


def runs(**found):
    return [
        DetectionRun(arm, 0, arm, TRUTH, detections, lambda index: None)
        for arm, detections in found.items()
    ]


@pytest.mark.parametrize("name", plugins.names("analysis"))
def test_it_asks_a_question_and_says_what_it_needs(name):
    module = plugins.find("analysis", name)
    assert module.QUESTION.endswith("?")
    assert isinstance(module.NEEDS, tuple) and module.NEEDS


@pytest.mark.parametrize("name", plugins.names("analysis"))
def test_a_planted_cause_is_found_and_a_planted_null_is_not(name, tmp_path):
    module = plugins.find("analysis", name)
    if module.NEEDS != ("detections",):
        raise AssertionError(f"{name} needs {module.NEEDS}: plant a cause and a null for these")
    caused = module.answer(runs(a=GOOD, b=shifted(GOOD)), module.Config(), tmp_path)
    null = module.answer(runs(a=GOOD, b=copy.deepcopy(GOOD)), module.Config(), tmp_path)
    assert caused.headline.low > 0 or caused.headline.high < 0
    assert null.headline.low <= 0 <= null.headline.high
    assert "no difference shown" in null.answer.lower()
    for finding in (caused, null):
        assert finding.caveat and finding.question == module.QUESTION
        assert Finding.model_validate_json(finding.model_dump_json()) == finding


@pytest.mark.parametrize("name", plugins.names("analysis"))
def test_inputs_are_left_as_they_were_and_the_answer_is_repeatable(name, tmp_path):
    module = plugins.find("analysis", name)
    given = runs(a=GOOD, b=shifted(GOOD))
    before = copy.deepcopy([(vars(run.truth), vars(run.detections)) for run in given])
    first = module.answer(given, module.Config(), tmp_path)
    again = module.answer(given, module.Config(), tmp_path)
    assert first == again
    for run, (truth, detections) in zip(given, before, strict=True):
        for kept, now in ((truth, vars(run.truth)), (detections, vars(run.detections))):
            for field, value in kept.items():
                assert np.array_equal(value, now[field]), field
