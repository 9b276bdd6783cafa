"""``whytransfer store``: look at and clean a store of artifacts."""

from pathlib import Path
from typing import Annotated

import typer

from whytransfer.cli.options import JsonOption, existing, plan_of, print_json

app = typer.Typer(help="Look at and clean a store of artifacts.", no_args_is_help=True)


@app.command("du")
def du(
    store: Annotated[Path, typer.Argument(help="Folder that holds the artifacts.")],
    as_json: JsonOption = False,
) -> None:
    """Say how much room each artifact and the rest take."""
    from whytransfer.core import cleaning

    usage = cleaning.usage(existing(store))
    if as_json:
        return print_json(usage)
    for name, size in usage.items():
        print(f"{size / 1e6:10.1f} MB  {name}")
    print(f"{sum(usage.values()) / 1e6:10.1f} MB  in all")
    return None


@app.command("gc")
def gc(
    store: Annotated[Path, typer.Argument(help="Folder that holds the artifacts.")],
    remove: Annotated[bool, typer.Option("--remove", help="Remove what is shown.")] = False,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="A study whose artifacts stay; all other artifacts go."),
    ] = None,
) -> None:
    """Show what can go (leftovers, altered artifacts, all but --keep); remove it with --remove."""
    from whytransfer.core import cleaning

    opened = existing(store)
    kept = {n.step.fingerprint for study in keep or () for n in plan_of(study, [], store)[0].nodes}
    found = cleaning.garbage(opened, kept if keep else None)
    for path, reason in found.items():
        print(f"{path.relative_to(opened.root)}  {reason}")
    if remove:
        cleaning.remove(found)
    print(f"{len(found)} {'removed' if remove else 'to remove; --remove does it'}")
