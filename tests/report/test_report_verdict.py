"""The first screen's answer: what is called best, and what is called not shown."""

import pytest
from tests.report.example_study import ARMS, example_study, task

from whytransfer.core.records import Metric
from whytransfer.report import headline
from whytransfer.report.content import Run, StudyResult, TaskResult
from whytransfer.report.numbers import Scale
from whytransfer.report.strip import strip_of
from whytransfer.report.verdict import interval_note, judge, oriented, turned


def made(values, half=1.0, seeds=(0,)):
    return task("voc07_detection", "AP", values, half, seeds, 500)


def test_a_clear_winner_is_named_with_its_interval():
    verdict = judge(made((9.4, 51.3, 19.7, 20.4)), ARMS)
    assert verdict.title == "supervised transfers best"
    assert "AP 51.3 %" in verdict.sentence
    assert "+30.9 points [29.6, 32.2] against exemplar_v2, the next best" in verdict.sentence
    assert [s.arm for s in verdict.standings] == [
        "supervised", "exemplar_v2", "moco_v2", "random_init"
    ]  # fmt: skip
    assert "1.9 points" in verdict.detectable


def test_arms_within_the_interval_are_not_told_apart():
    verdict = judge(made((9.4, 20.1, 12.0, 20.4)), ARMS)
    assert verdict.title == "No difference shown between exemplar_v2 and supervised"
    assert "+0.3 points [−1.0, 1.6] against supervised" in verdict.sentence
    assert "Shown to be behind: moco_v2 and random_init." in verdict.sentence


def test_no_difference_at_all():
    verdict = judge(made((20.0, 20.1, 20.2, 20.3)), ARMS)
    assert verdict.title == "No difference shown"
    assert "behind" not in verdict.sentence


def test_lower_is_better_turns_the_ranking():
    higher = made((9.4, 51.3, 19.7, 20.4))
    runs = tuple(
        run.model_copy(
            update={
                "metrics": tuple(
                    m.model_copy(update={"higher_is_better": False}) for m in run.metrics
                )
            }
        )
        for run in higher.runs
    )
    verdict = judge(higher.model_copy(update={"runs": runs}), ARMS)
    assert verdict.title == "random_init transfers best"
    assert "−10.3 points" in verdict.sentence
    assert "lower is better" in verdict.sentence
    strip = strip_of(verdict)
    assert strip and strip.rows[0].arm == "random_init"
    for row in strip.rows[1:]:
        assert row.low is not None and row.dot is not None and row.high is not None
        assert 0 <= strip.zero < row.low < row.dot < row.high <= 100


def test_an_interval_that_cannot_be_given_shows_nothing():
    base = made((9.4, 51.3, 19.7, 20.4))
    update = {"low": None, "high": None, "shown": False, "interval": "two seeds only",
              "smallest_detectable": None}  # fmt: skip
    pairs = tuple(c.model_copy(update=update) for c in base.comparisons)
    verdict = judge(base.model_copy(update={"comparisons": pairs}), ARMS)
    assert verdict.title == "No difference shown"
    assert "(no interval: two seeds only)" in verdict.sentence
    assert verdict.detectable == "What difference could have been shown is not known."


def test_undefined_metrics_rank_last_and_missing_arms_are_left_out():
    base = made((9.4, 51.3, 19.7, 20.4))
    undefined = Run(arm="supervised", seed=0, metrics=(Metric(name="AP", value=None, n=0),))
    runs = (undefined, *(r for r in base.runs if r.arm in ("moco_v2", "exemplar_v2")))
    verdict = judge(base.model_copy(update={"runs": runs}), ARMS)
    assert [s.arm for s in verdict.standings] == ["exemplar_v2", "moco_v2", "supervised"]
    assert verdict.standings[-1].value is None


@pytest.mark.parametrize(("arms", "title"), [((), "No result"), (("moco_v2",), "Nothing to comp")])
def test_too_few_arms(arms, title):
    base = made((9.4, 51.3, 19.7, 20.4))
    left = tuple(run for run in base.runs if run.arm in arms)
    verdict = judge(base.model_copy(update={"runs": left, "comparisons": ()}), ARMS)
    assert verdict.title.startswith(title)
    assert strip_of(verdict) is None


def test_comparisons_are_found_in_either_direction():
    base = made((9.4, 51.3, 19.7, 20.4))
    there, back = oriented(base, "moco_v2", "supervised"), oriented(base, "supervised", "moco_v2")
    assert there and back
    assert (there.difference, there.low, there.high) == (-back.difference, -back.high, -back.low)
    assert turned(turned(there)) == there
    assert oriented(base, "moco_v2", "nobody") is None


def test_the_strip_puts_every_mark_inside_and_zero_at_the_best_arm():
    strip = strip_of(judge(made((9.4, 51.3, 19.7, 20.4)), ARMS))
    assert strip and strip.rows[0].state == "best" and strip.rows[0].dot == strip.zero
    for row in strip.rows[1:]:
        assert row.low is not None and row.high is not None and row.dot is not None
        assert 0 <= row.low < row.dot < row.high < strip.zero <= 100
        assert row.state == "shown"


def test_headline_has_one_line_per_task(tmp_path):
    lines = headline(example_study(tmp_path)).split("\n")
    assert [line.split(":")[0] for line in lines] == ["linear_readout", "voc07_detection"]
    assert lines[0].startswith("linear_readout: supervised transfers best.")
    assert "No difference shown between exemplar_v2, supervised and moco_v2." in lines[1]


def test_headline_of_an_empty_study():
    empty = StudyResult(
        name="x", description="", caveats=(), reference="", seeds=(), arms=(),
        arm_descriptions={}, tasks=(),
    )  # fmt: skip
    assert headline(empty) == "No task was run, so there is nothing to compare."
    one = TaskResult(name="t", plugin="t", headline="AP", description="", runs=(), comparisons=())
    assert headline(empty.model_copy(update={"tasks": (one,)})) == (
        "t: No result. No run of this task has finished."
    )


def test_what_intervals_cover_is_said_once():
    note = interval_note(made((9.4, 51.3, 19.7, 20.4)).comparisons)
    assert "another training run may move it further" in note
    assert note.count("Intervals say") == 1
    assert judge(made((1.0, 2.0, 3.0, 4.0)), ARMS).scale == Scale(1, "%")
