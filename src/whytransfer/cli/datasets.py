"""``whytransfer data``: make and check datasets."""

from pathlib import Path
from typing import Annotated

import typer

from whytransfer.cli.options import JsonOption, Overrides, SeedOption, print_json

app = typer.Typer(help="Make and check datasets.", no_args_is_help=True)


@app.command("make")
def make(
    maker: Annotated[str, typer.Argument(help="things, crowds, photos, or a dotted path.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    overrides: Overrides = None,
    seed: SeedOption = 0,
) -> None:
    """Write a dataset of the procedural world, in the layout of a real one."""
    from whytransfer.core.config import override
    from whytransfer.data import make as making

    config = making.configure(maker, override({}, overrides or ()), f"data make {maker}")
    making.make(maker, folder, config, seed)
    print(folder)


@app.command("check")
def check_dataset(
    path: Annotated[str, typer.Argument(help="FORMAT:PATH, or PATH to be recognised.")],
    overrides: Overrides = None,
    as_json: JsonOption = False,
) -> None:
    """Look through a dataset for what would break or bias a run; status 2 if anything is wrong."""
    from whytransfer.core.config import override
    from whytransfer.data.checks import check

    report = check(path, override({}, overrides or ()))
    if as_json:
        print_json(report.to_plain())
    else:
        print("\n".join(report.lines()))
    if report.problems:
        raise typer.Exit(2)
