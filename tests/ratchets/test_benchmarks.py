"""The names under which benchmarks report their ratios stay: other programs read them by name."""

import ast
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

NAMES = {
    "data_path": ["cpu_vs_pil", "crops_vs_pil"],
    "pretrain_step": ["r18_vs_reference", "r50_vs_reference", "r18_vs_lightly"],
    "pretrain_end_to_end": ["r18_vs_reference", "r50_vs_reference", "r18_vs_lightly"],
    "exemplar_loss": ["vs_naive", "extra_mb"],
    "inversion": ["vs_single"],
    "detection_errors": ["vs_tidecv", "with_intervals_vs_tidecv"],
    "scaling": [
        "two_processes", "two_processes_256", "images_x10", "exponent_images", "exponent_keys",
        "exponent_batch", "exponent_size",
    ],
}  # fmt: skip


def tree(name: str) -> ast.Module:
    return ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))


def constants(name: str) -> set[str]:
    """Lists the strings of a benchmark, and of the modules beside it that it imports."""
    nodes = list(ast.walk(tree(name)))
    beside = [n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module]
    own = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    found = (constants(module) for module in beside if (FOLDER / f"{module}.py").is_file())
    return own.union(*found)


def made(name: str) -> list[re.Pattern[str]]:
    """Returns the f-strings that could name a ratio, a group for each value in them."""
    texts = [n for n in ast.walk(tree(name)) if isinstance(n, ast.JoinedStr)]
    patterns = (
        "".join(re.escape(p.value) if isinstance(p, ast.Constant) else r"(\w*?)" for p in t.values)
        for t in texts
    )
    return [re.compile(pattern) for pattern in patterns if "_vs_" in pattern]


@pytest.mark.parametrize(("name", "ratio"), [(n, r) for n, ratios in NAMES.items() for r in ratios])
def test_the_ratio_is_reported_under_its_name(name, ratio):
    known = constants(name) | {""}
    spelt = [found for pattern in made(name) if (found := pattern.fullmatch(ratio))]
    assert ratio in known or any(known.issuperset(found.groups()) for found in spelt)


def test_a_name_that_is_not_reported_would_be_noticed():
    assert "r18_vs_referenze" not in constants("pretrain_step")
    (pattern,) = made("pretrain_step")
    assert not constants("pretrain_step").issuperset(pattern.fullmatch("r18_vs_other").groups())
    assert pattern.fullmatch("r18_to_reference") is None


def test_the_pil_pipeline_stands_once():
    chains = [path.name for path in FOLDER.glob("*.py") if "ColorJitter" in path.read_text()]
    assert chains == ["_pil.py"]
