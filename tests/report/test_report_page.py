"""The page as a file: complete, escaped, deterministic, made without torch."""

import base64
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.report.example_study import example_study, hostile_study, sheets

from whytransfer.core.errors import InputError
from whytransfer.report import vega, write
from whytransfer.report.content import StudyResult
from whytransfer.report.gallery import gallery_of, is_sheet
from whytransfer.report.page import render

MAKE_SCRIPT = vega.script


class Reader(HTMLParser):
    """Collects what a browser would see: tags, their attributes, and the text outside scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.scripts, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "image", "use", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        (self.scripts if inside in ("script", "style") else self.text).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(autouse=True, scope="module")
def small_bundle():
    """The chart library is tested in the browser; here a stand-in keeps the pages small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vega, "script", lambda: "/* vega */")
        yield


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return Reader(render(example_study(folder)))


def test_the_first_screen_answers(page):
    header = page.words[: page.words.index("Fine-tunes a detector")]
    for expected in (
        "Which pretraining transfers best?",
        "supervised transfers best",
        "+59.1 points [57.3, 60.9] against exemplar_v2",
        "No difference shown between exemplar_v2, supervised and moco_v2",
        "Smallest difference that could have been shown (in 80 % of such studies): 2.6 points",
        "Differences at this budget are not the finding",
        "another training run may move it further",
        "1 step of this study did not finish",
    ):
        assert expected in header


def test_every_part_is_there(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)), "ids must be unique"
    for wanted in ("answer", "task-1", "task-2", "finding-1", "training", "provenance", "failures"):
        assert wanted in ids
    for link in page.all("a"):
        assert link["href"].removeprefix("#") in ids
    for expected in (
        "94.1 [92.7, 95.5]",
        "undefined",
        "the sources give 65,536 for 1.28 million images",
        "training.sgd.lr",
        "0123abcd",
        "TrainingError: the loss is not finite at step 312",
        "A better detector has other errors anyway",
        "ring 0.87, IoU 0.38",
    ):
        assert expected in page.words


def test_nothing_is_fetched(page):
    for _, attributes in page.tags:
        for name in ("src", "href"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/jpeg;base64,")), value
    policy = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy and policy[0].startswith("default-src 'none'")
    assert "url(" not in "".join(page.scripts)
    assert "@import" not in "".join(page.scripts)


def test_charts_hold_the_numbers_and_the_pages_colours(page):
    specs = {
        attributes["data-chart"]: attributes for attributes in page.all("script")
        if "data-chart" in attributes
    }  # fmt: skip
    assert list(specs) == [
        "chart-result-1", "chart-result-2", "chart-finding-1-1", "chart-finding-1-2",
        "chart-finding-2-1-stages", "chart-finding-2-1", "chart-finding-2-2",
        "chart-curve-1", "chart-curve-2", "chart-curve-3",
    ]  # fmt: skip
    charts = [json.loads(text) for text in page.scripts if text.startswith('{"$schema"')]
    assert len(charts) == len(specs)
    values = rows_of(charts[2])
    assert len(values) == 20 and values[1]["share"] == 44.0 and values[1]["type"] == "localisation"
    assert "var(--type-1)" in json.dumps(charts[2])
    gains = charts[3]["encoding"]
    assert "yOffset" in gains and "stack" not in gains["x"], "AP gains are not stacked"
    stages, levels, along = charts[4:7]
    assert len(rows_of(stages)) == 4 * 5, "the mean of the seeds"
    assert len(rows_of(levels)) == 4 * 5 * 2, "every seed for itself"
    assert stages["layer"][0]["encoding"]["x"]["sort"][0] == "stem", "from the image on"
    assert [layer["mark"]["type"] for layer in along["layer"]] == ["area", "line", "point"]
    assert 300 < len(rows_of(charts[8])) <= 3 * 160


def rows_of(chart: dict) -> list[dict]:
    (rows,) = chart["datasets"].values()
    return rows


def test_a_log_that_is_not_finite_leaves_a_gap(tmp_path):
    study = example_study(tmp_path)
    broken = study.curves[0].model_copy(update={"steps": (1, 2, 3), "values": (1.0, math.nan, 2.0)})
    page = Reader(render(study.model_copy(update={"curves": (broken,)})))
    (chart,) = [json.loads(t) for t in page.scripts if '"hover"' in t]
    assert [row["step"] for row in rows_of(chart)] == [1, 3]


def test_pictures_are_embedded_once_with_their_boxes(page):
    assert len(page.all("image")) == 6
    assert len(page.all("use")) == 12
    assert len([r for r in page.all("rect") if "wrong" in r["class"]]) == 12 + 1  # and the legend
    tags = [json.loads(f["data-tags"]) for f in page.all("figure") if "data-tags" in f]
    assert tags[1] == {"type": "similar", "arm": "moco_v2"}
    buttons = [b.get("data-value") for b in page.all("button") if "aria-pressed" in b]
    assert buttons[:5] == [None, "localisation", "similar", "other", "background"]


def test_a_picture_without_boxes_keeps_its_size_up_to_a_limit(tmp_path):
    gallery = gallery_of(sheets(tmp_path), "g")
    sizes = []
    for address in gallery.images.values():
        content = base64.b64decode(address.partition(",")[2])
        sizes.append(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape[:2])
    assert sizes[:2] == [(1850, 912), (254, 912)]
    height, width = sizes[2]
    assert 3_990_000 < height * width < 4_010_000 and width / 4 > 110
    assert [is_sheet(picture) for picture, _ in gallery.pictures] == [True, True, True]


def test_several_seeds_stand_as_points(tmp_path):
    tables_only = {"findings": (), "curves": (), "provenance": ()}
    three = example_study(tmp_path, seeds=(0, 1, 2)).model_copy(update=tables_only)
    page = Reader(render(three))
    assert "94.8 mean seed 0: 94.1 [92.7, 95.5] seed 1: 94.8" in page.words
    assert "−59.1 · −58.8 · −58.5" in page.words or "−59.1 · −59.4 · −59.7" in page.words
    assert "95 %, seeds then images" in page.words
    assert "with another training run on other test images" in page.words
    two = example_study(tmp_path, seeds=(0, 1)).model_copy(update=tables_only)
    assert "needs 3 seeds" in Reader(render(two)).words


def test_hostile_names_stay_text(tmp_path, page):
    path = write(hostile_study(tmp_path), tmp_path / "report.html")
    hostile = Reader(path.read_text(encoding="utf-8"))
    assert len(hostile.all("script")) == len(page.all("script"))
    assert not hostile.all("img")
    for _, attributes in hostile.tags:
        assert not [name for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }} ünïcødé 漢字" in hostile.words
    assert "<script>alert(1)</script>" in hostile.words, "shown as text"
    assert "caf\\udce9" in hostile.words


def test_the_same_result_gives_the_same_page(tmp_path):
    study = example_study(tmp_path)
    assert render(study) == render(StudyResult.model_validate_json(study.model_dump_json()))


def test_studies_with_holes_still_give_a_page(tmp_path):
    full = example_study(tmp_path)
    holes = full.tasks[0].model_copy(update={"runs": (), "comparisons": ()})
    one_arm = full.tasks[1].model_copy(update={"runs": full.tasks[1].runs[:1], "comparisons": ()})
    update = {"tasks": (holes, one_arm), "findings": (), "curves": (), "provenance": ()}
    words = Reader(render(full.model_copy(update=update))).words
    assert "No run of this task has finished." in words
    assert "Nothing to compare" in words
    nothing = {**update, "tasks": (), "failures": (), "caveats": (), "arms": (), "seeds": ()}
    assert "No task was run" in Reader(render(full.model_copy(update=nothing))).words


@pytest.mark.parametrize("name", ["missing/report.html", "", "file/report.html"])
def test_a_path_that_cannot_be_written_is_one_clear_error(tmp_path, name):
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"; expected the (folder|name)"):
        write(
            example_study(tmp_path / "file.d").model_copy(update={"findings": ()}), tmp_path / name
        )
    left = [p for p in sorted(tmp_path.rglob("*")) if "file.d" not in str(p)]
    assert left == before


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_a_missing_or_broken_picture_is_named(tmp_path, content):
    study = example_study(tmp_path)
    path = tmp_path / "scene_3.png"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=r"scene_3\.png"):
        write(study, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_the_chart_library_is_put_together_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vega, "_bundle", lambda: calls.append(1) or f"vega();\n{vega._END}")
    assert MAKE_SCRIPT() == MAKE_SCRIPT()
    assert len(calls) == 1
    (kept,) = (tmp_path / "whytransfer").iterdir()
    kept.write_text("half a fi")
    assert MAKE_SCRIPT().endswith(vega._END)
    assert len(calls) == 2


COUNT = """
import sys, time
import whytransfer.report
heavy = {"torch", "altair", "jinja2", "vl_convert", "cv2"} & set(sys.modules)
assert not heavy, heavy
from pathlib import Path
from whytransfer.report.content import StudyResult
result = StudyResult.model_validate_json(Path(sys.argv[1]).read_text())
whytransfer.report.write(result, Path(sys.argv[2]))
assert "torch" not in sys.modules
"""


def test_no_torch_and_nothing_heavy_before_write(tmp_path):
    study = example_study(tmp_path / "pictures")
    (tmp_path / "study.json").write_text(study.model_dump_json())
    command = [sys.executable, "-W", "error", "-c", COUNT, "study.json", "report.html"]
    subprocess.run(command, cwd=tmp_path, check=True)
    size = (tmp_path / "report.html").stat().st_size
    assert 0.8e6 < size < 2e6, "the chart library once, and little else"


def test_colours_can_be_told_from_the_paper():
    css = (Path(vega.__file__).parent / "templates" / "style.css").read_text()
    light, dark = (
        dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", part))
        for part in (css[: css.index("@media")], css[css.index("@media") : css.index("* {")])
    )
    for theme in (light, {**light, **dark}):
        for name in ("ink", "ink-soft", "accent", "alarm"):
            assert contrast(theme[name], theme["paper"]) >= 4.5, name
        for number in range(1, 9):
            assert contrast(theme[f"arm-{number}"], theme["paper"]) >= 2.7, number
            assert contrast(theme[f"type-{number}"], theme["on-type"]) >= 4.5, number


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
