"""What the documents say can be typed, can be typed."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

import whytransfer
from whytransfer import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_lines(text: str) -> list[str]:
    """Lists the lines of a document's code, fenced or indented by four; broken ones are joined."""
    lines, fenced = [], False
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line.strip().removeprefix("$ "))
    return lines


def commands(name: str) -> list[str]:
    """Lists the commands of all documents, comments left out."""
    lines = [line for path in DOCUMENTS for line in code_lines(path.read_text(encoding="utf-8"))]
    return sorted({line.partition("#")[0].strip() for line in lines if line.startswith(f"{name} ")})


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {word for line in commands("make") for word in line.split()[1:] if word.isalpha()}
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("line", [line for line in commands("whytransfer") if "|" not in line])
def test_every_command_parses(line):
    words = shlex.split(line.replace("[", "").replace("]", ""))[1:]
    context = typer.main.get_command(cli.app).make_context("whytransfer", words)
    while hasattr(context.command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, found, rest = context.command.resolve_command(context, rest)
        context = found.make_context(name, rest, parent=context)


def test_the_version_is_one():
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{whytransfer.__version__}"' in text
    assert f"version: {whytransfer.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_the_pins_carry_no_address():
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text and "torch==" in text


def test_public_names_are_those_announced():
    assert sorted(whytransfer.__all__) == whytransfer.__all__
    for name in whytransfer.__all__:
        assert getattr(whytransfer, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        whytransfer.absent  # noqa: B018


def test_no_path_of_a_machine_and_no_registry_in_the_repository():
    for path in [*ROOT.glob("*.toml"), *ROOT.glob("*.txt"), *ROOT.rglob("*.md"), ROOT / "Makefile"]:
        if ".venv" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(root|home)/\w|pypi\.org|index-url|extra-index", text), path
