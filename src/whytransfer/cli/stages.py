"""``whytransfer ls``, ``pretrain``, ``transfer``, ``diagnose``: one stage at a time."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whytransfer.cli.options import (
    DEFAULT_STORE,
    DataOption,
    DeterministicOption,
    DeviceOption,
    JsonOption,
    LimitOption,
    Overrides,
    SeedOption,
    StoreOption,
    WorkersOption,
    metric_line,
    print_json,
)
from whytransfer.core import plugins
from whytransfer.core.processes import here

if TYPE_CHECKING:
    from whytransfer.core.store import Artifact
    from whytransfer.pretrain.estimate import Estimate


def ls(as_json: JsonOption = False) -> None:
    """List the methods, tasks, analyses, formats, worlds, layouts and studies."""
    from whytransfer.study import shipped

    found = {
        kind: {name: plugins.describe(kind, name) for name in plugins.names(kind)}
        for kind in plugins.PACKAGES
    }
    found["study"] = dict(shipped.descriptions())
    if as_json:
        return print_json(found)
    for kind, entries in found.items():
        print(f"{kind}:")
        width = max(map(len, entries), default=0)
        for name, line in entries.items():
            print(f"  {name:<{width}}  {line}")
    return None


def pretrain(
    method: Annotated[str, typer.Argument(help="A method of `whytransfer ls`, or a dotted path.")],
    data: DataOption,
    overrides: Overrides = None,
    store: StoreOption = DEFAULT_STORE,
    seed: SeedOption = 0,
    limit: LimitOption = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    deterministic: DeterministicOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure ten steps; print what the run would take.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Pretrain a backbone; prints the folder of its artifact. Under torchrun: on all processes."""
    import whytransfer.pretrain

    if dry_run:
        from whytransfer.pretrain.estimate import estimate

        execution = _execution(workers, device, deterministic)
        values = _values(overrides, limit)
        found = estimate(method, data, seed=seed, store=store, execution=execution, **values)
        return _show_estimate(found, as_json)
    artifact = whytransfer.pretrain.run(
        method, data, seed=seed, store=store,
        execution=_execution(workers, device, deterministic), **_values(overrides, limit),
    )  # fmt: skip
    return _show_artifact(artifact, as_json)


def transfer(
    task: Annotated[str, typer.Argument(help="A task of `whytransfer ls`, or a dotted path.")],
    backbone: Annotated[
        Path, typer.Option("--backbone", help="A pretrain or transfer artifact, or a checkpoint.")
    ],
    data: DataOption,
    overrides: Overrides = None,
    store: StoreOption = DEFAULT_STORE,
    seed: SeedOption = 0,
    limit: LimitOption = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
    deterministic: DeterministicOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a backbone on a task and score it; prints the folder of the artifact."""
    import whytransfer.pretrain
    import whytransfer.transfer

    start = whytransfer.pretrain.open_backbone(backbone, store=store)
    artifact = whytransfer.transfer.run(
        task, start, data, seed=seed, store=store,
        execution=_execution(workers, device, deterministic), **_values(overrides, limit),
    )  # fmt: skip
    _show_artifact(artifact, as_json)


def diagnose(
    analysis: Annotated[str, typer.Argument(help="An analysis of `whytransfer ls`.")],
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Artifacts or files: PATH, NAME=PATH, or NAME:VARIANT=PATH for a further run."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the analysis as field=value.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="The test images, and the truth of foreign predictions."),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="What the runs were pretrained on.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Ask why runs differ; prints the answer and the folder of the finding."""
    import whytransfer.diagnose
    from whytransfer.diagnose.stage import read_finding

    named: dict[str, list[Path]] = {}
    for name, path in map(_named, runs or ()):
        named.setdefault(name, []).append(path)
    artifact = whytransfer.diagnose.run(
        analysis, named, data, against=against, store=store, **_values(settings, None)
    )
    finding = read_finding(artifact)
    if as_json:
        return print_json(finding.model_dump(mode="json"))
    print(f"{finding.question}\n{finding.answer}\n{finding.caveat}\n{artifact.path}")
    return None


def _named(run: str) -> tuple[str, Path]:
    """Reads NAME=PATH; a path alone is called by its own name."""
    name, equals, path = run.partition("=")
    return (name, Path(path)) if equals else (Path(run).name, Path(run))


def _execution(workers: int, device: str, deterministic: bool) -> dict[str, Any]:
    return {"workers": workers, "device": device, "deterministic": deterministic}


def _values(overrides: list[str] | None, limit: int | None) -> dict[str, Any]:
    from whytransfer.core.config import override

    return override({}, [*(overrides or ()), *([f"limit={limit}"] if limit else [])])


def _show_estimate(found: "Estimate", as_json: bool) -> None:
    from whytransfer.pretrain.estimate import lines

    if as_json:
        return print_json({**asdict(found), "fits": found.fits})
    return print("\n".join(lines(found)))


def _show_artifact(artifact: "Artifact", as_json: bool) -> None:
    if not here().leads:
        return None
    record = artifact.record
    if as_json:
        return print_json({"path": str(artifact.path), "record": record.model_dump(mode="json")})
    for metric in record.metrics:
        print(metric_line(metric))
    print(artifact.path)
    return None
