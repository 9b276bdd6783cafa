"""``whytransfer data``: make and check datasets."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from whytransfer.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    Overrides,
    SeedOption,
    StoreOption,
    print_json,
)

app = typer.Typer(help="Make and check datasets.", no_args_is_help=True)


@app.command("make")
def make(
    maker: Annotated[
        str,
        typer.Argument(help="things, crowds, photos, ... or, with --shards, FORMAT:PATH."),
    ],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    overrides: Overrides = None,
    shards: Annotated[
        bool, typer.Option("--shards", help="Write tar shards of the images and labels.")
    ] = False,
    images_per_shard: Annotated[
        int, typer.Option("--images-per-shard", min=1, help="Images of one shard.")
    ] = 1000,
    seed: SeedOption = 0,
) -> None:
    """Write a dataset of the procedural world in a real layout, or any dataset as tar shards."""
    from whytransfer.core.config import override
    from whytransfer.core.errors import InputError
    from whytransfer.data import make as making

    fields, per_shard = override({}, overrides or ()), images_per_shard if shards else None
    if ":" not in maker:
        config = making.configure(maker, fields, f"data make {maker}")
        making.make(maker, folder, config, seed, per_shard)
    elif per_shard is None:
        raise InputError(maker, "is a dataset, no maker", "a maker's name", "add --shards")
    else:
        making.convert(maker, folder, fields, per_shard)
    print(folder)


@app.command("check")
def check_dataset(
    path: Annotated[str, typer.Argument(help="FORMAT:PATH, or PATH to be recognised.")],
    overrides: Overrides = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Say instead which of its images are in this dataset."),
    ] = None,
    against_fields: Annotated[
        list[str] | None,
        typer.Option("--against-field", help="A field of that dataset's format as field=value."),
    ] = None,
    against_split: Annotated[
        Literal["train", "test"] | None,
        typer.Option("--against-split", help="Look at that split alone: pretraining sees train."),
    ] = None,
    distance: Annotated[
        int | None,
        typer.Option("--distance", min=0, max=64, help="Bits of 64 in which hashes may differ."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look through a dataset for what would break or bias a run; status 2 if anything is wrong."""
    from whytransfer.core.config import override
    from whytransfer.core.errors import InputError
    from whytransfer.data.checks import check
    from whytransfer.data.format import Report
    from whytransfer.data.overlap import MAX_DISTANCE, Overlap, overlap

    fields = override({}, overrides or ())
    report: Report | Overlap
    if against is not None:
        bits = MAX_DISTANCE if distance is None else distance
        others = override({}, against_fields or ())
        report = overlap(path, against, fields, bits, others, against_split)
    elif distance is None and against_split is None and not against_fields:
        report = check(path, fields)
    else:
        given = {"--distance": distance, "--against-split": against_split}
        option = next((name for name, value in given.items() if value is not None), "")
        raise InputError(
            option or "--against-field", "is of no use alone", "--against DATASET as well"
        )
    if as_json:
        print_json(report.to_plain())
    else:
        print("\n".join(report.lines()))
    if report.problems or (isinstance(report, Overlap) and report.matches):
        raise typer.Exit(2)


@app.command("show")
def show(
    data: Annotated[str, typer.Argument(help="world:MAKER, FORMAT:PATH, or PATH.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Of the augmentation, as crop_px=96 or order=v1.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The sheet to write.")] = Path("views.png"),
    parameters: Annotated[
        Path | None,
        typer.Option("--parameters", help="Write what is drawn for every view, as JSON lines."),
    ] = None,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="Passes over the data in --parameters.")
    ] = 1,
    images: Annotated[int, typer.Option("--images", min=1, help="Images on the sheet.")] = 4,
    store: StoreOption = DEFAULT_STORE,
    seed: SeedOption = 0,
) -> None:
    """Draw the views of some images on a contact sheet, a row per rung of augmentation."""
    from whytransfer.core.config import build, override
    from whytransfer.core.store import Store
    from whytransfer.data import contact_sheet as sheet
    from whytransfer.data.augmentation import Augmentation
    from whytransfer.data.stage import open_reference

    augmentation = build(Augmentation, override({}, overrides or ()), f"data show {data}")
    source = open_reference(data, Store(store)).open("train")
    pixels = sheet.contact_sheet(source, augmentation, num_images=images, seed=seed)
    sheet.write_sheet(pixels, out)
    print(out)
    if parameters is not None:
        rows = sheet.parameter_rows(source, augmentation, seed=seed, num_epochs=epochs)
        sheet.write_rows(rows, parameters)
        print(parameters)
