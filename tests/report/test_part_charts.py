from whytransfer.report.finding_charts import finding_charts

ROWS = [
    {"arm": arm, "part": part, "value": value, "low": value - 1, "high": value + 1}
    for value, (arm, part) in enumerate(
        (a, p) for a in ("moco", "random") for p in ("small", "large")
    )
]


def test_parts_are_dots_without_a_diagram_of_stages():
    (chart,) = finding_charts({"Loc_by_size": ROWS}, ["moco", "random"], "f")
    assert chart.title == "Loc by size, per part"
    assert "small, large" in chart.description
    (diagram, dots) = finding_charts(
        {"x": [{**row, "level": row["part"]} for row in ROWS]}, ["moco", "random"], "f"
    )
    assert "stage" in diagram.title and dots.title.endswith("per level")
