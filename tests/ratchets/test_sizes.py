"""The limits on size that keep every file readable in one sitting."""

import ast
import io
import statistics
import tokenize
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "whytransfer"
FILES = sorted(SRC.rglob("*.py"))

MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60
MAX_LOOP_LINES = 80  # the one visible training loop
MAX_DEPTH = 3
MAX_ARGUMENTS = 7
# A command's parameters are the options that a user sees, so their number is the interface.
COMMANDS = SRC / "cli"

FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
BLOCKS = (ast.For, ast.While, ast.If, ast.With, ast.Try)


def functions(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, FUNCTIONS):
            yield node


def body_lines(node: FUNCTIONS) -> int:
    """Counts the lines from the first statement after the docstring to the last."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def depth(node: ast.AST) -> int:
    """Counts nested blocks; ``elif`` is no deeper than its ``if``."""
    deepest = 0
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, FUNCTIONS | ast.ClassDef):
                continue
            is_elif = isinstance(node, ast.If) and name == "orelse" and isinstance(child, ast.If)
            own = int(isinstance(child, BLOCKS) and not is_elif)
            deepest = max(deepest, own + depth(child))
    return deepest


def num_arguments(node: FUNCTIONS) -> int:
    given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    return len([a for a in given if a.arg not in ("self", "cls")])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SRC).as_posix())
def test_limits(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= MAX_FILE_LINES
    assert max(map(len, lines), default=0) <= 100
    for node in functions(path):
        where = f"{path.name}:{node.lineno} {node.name}"
        is_loop = path == SRC / "train" / "loop.py"
        assert body_lines(node) <= (MAX_LOOP_LINES if is_loop else MAX_FUNCTION_LINES), where
        assert depth(node) <= MAX_DEPTH, where
        if COMMANDS not in path.parents:
            assert num_arguments(node) <= MAX_ARGUMENTS, where


def test_the_median_function_is_short():
    sizes = sorted(body_lines(node) for path in FILES for node in functions(path))
    assert statistics.median(sizes) <= 10
    assert sizes[int(0.95 * len(sizes))] <= 40


def test_the_median_file_is_short():
    sizes = sorted(len(path.read_text().splitlines()) for path in FILES)
    assert statistics.median(sizes) <= 150
    assert sizes[int(0.95 * len(sizes))] <= 350


def test_every_public_thing_has_a_docstring():
    missing = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        missing += [path.name] if not ast.get_docstring(tree) else []
        for node in tree.body:
            public = isinstance(node, FUNCTIONS | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(f"{path.name}:{node.lineno} {node.name}")
    assert not missing


def test_no_unfinished_code_and_no_print_outside_the_command_line():
    for path in FILES:
        tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        for token in tokens:
            if token.type == tokenize.COMMENT:
                assert not any(w in token.string for w in ("TODO", "FIXME", "XXX")), (path, token)
            if (
                token.type == tokenize.NAME
                and token.string == "print"
                and ".print" not in token.line
            ):
                assert COMMANDS in path.parents, (path, token.start)


def test_no_function_stands_twice():
    seen: dict[str, str] = {}
    for path in FILES:
        for node in functions(path):
            if body_lines(node) >= 6:
                text = ast.dump(ast.Module(body=node.body, type_ignores=[]))
                where = f"{path.relative_to(SRC)}:{node.lineno} {node.name}"
                assert text not in seen, f"{where} is a copy of {seen[text]}"
                seen[text] = where
