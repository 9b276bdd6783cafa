"""Imports run strictly downwards; what must stay light imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "whytransfer"

# Lowest first. Packages that share a line must not import each other.
LAYERS = [
    {"core"},
    {"ops"},
    {"data"},
    {"backbone"},
    {"train"},
    {"pretrain", "transfer"},
    {"diagnose", "report"},
    {"recipes"},
    {"study"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports(path: Path):
    """Yields every whytransfer package that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
            if node.module == "whytransfer":
                modules = [f"whytransfer.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] == "whytransfer" and len(parts) > 1 and not parts[1].startswith("__"):
                yield parts[1]


FILES = sorted(p for p in SRC.rglob("*.py") if p.relative_to(SRC).as_posix() != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SRC).as_posix())
def test_imports_run_downwards(path):
    own = path.relative_to(SRC).parts[0].removesuffix(".py")
    for imported in imports(path):
        assert imported == own or LEVEL[imported] < LEVEL[own], f"{own} imports {imported}"


def test_the_analyses_never_touch_a_method_or_a_task():
    for path in (SRC / "diagnose").rglob("*.py"):
        assert not {"pretrain", "transfer", "train"} & set(imports(path)), path


@pytest.mark.parametrize(
    "module",
    [
        "whytransfer",
        "whytransfer.cli",
        "whytransfer.report",
        "whytransfer.report.kept",
        "whytransfer.study.rows",
        "whytransfer.study.shipped",
        "whytransfer.ops.average_precision",
        "whytransfer.diagnose.analyses.detection_errors",
    ],
)
def test_light_modules_import_nothing_heavy(module):
    heavy = ["torch", "torchvision", "lightning", "timm", "sklearn", "skimage", "altair"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_is_a_junk_drawer():
    junk = {"utils", "util", "helpers", "helper", "common", "misc"}
    names = {part.removesuffix(".py") for p in SRC.rglob("*.py") for part in p.parts}
    assert not junk & names
