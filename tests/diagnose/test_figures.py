"""The figures of the analyses of further runs and lists are drawn, and as what they are."""

import pytest
from tests.diagnose.planted import convergence, label_overlap, stage_transplant

from whytransfer.diagnose import analyses
from whytransfer.report.finding_charts import finding_charts


def charts(name, planted, folder):
    import importlib

    module = importlib.import_module(f"{analyses.__name__}.{name}")
    finding = module.answer(*planted.cause(folder), folder)
    arms = ["a", "random_init"]
    return finding_charts(finding.figures, arms, name)


@pytest.mark.parametrize(
    ("name", "planted", "num_charts", "has_stages"),
    [
        ("stage_transplant", stage_transplant, 5, True),
        ("convergence", convergence, 2, False),
        ("label_overlap", label_overlap, 1, False),
    ],
)
def test_each_figure_is_a_chart(tmp_path, name, planted, num_charts, has_stages):
    drawn = charts(name, planted, tmp_path)
    assert len(drawn) == num_charts
    # Only levels of a backbone are drawn as its stages.
    assert any(chart.id.endswith("-stages") for chart in drawn) == has_stages
