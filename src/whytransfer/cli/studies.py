"""``whytransfer demo``, ``study``, ``results``, ``report``: whole studies and their pages."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whytransfer.cli.options import (
    DEFAULT_STORE,
    DeviceOption,
    JsonOption,
    LimitOption,
    Overrides,
    ReportOption,
    SeedOption,
    SlotsOption,
    StoreOption,
    StudyArgument,
    WorkersOption,
    existing,
    metric_line,
    plan_of,
    print_json,
    say,
)
from whytransfer.core.errors import InputError

if TYPE_CHECKING:
    from whytransfer.report.content import StudyResult
    from whytransfer.study.run import Event


app = typer.Typer(help="Plan and run whole studies.", no_args_is_help=True)


def demo(
    store: StoreOption = DEFAULT_STORE,
    report: ReportOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    slots: SlotsOption = None,
) -> None:
    """Run the embedded study on the procedural world and write its report: minutes, no download."""
    overrides = [f"seeds=[{seed}]"] + ([f"limit={limit}"] if limit else [])
    _run_study("demo", overrides, store, report, slots)


@app.command("plan")
def plan_study(
    study: StudyArgument,
    overrides: Overrides = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Print the graph, what the store already has, and how long the rest should take."""
    from whytransfer.study import cost

    plan, opened = plan_of(study, overrides or [], store)
    lines = cost.outline(plan, opened)
    if as_json:
        return print_json([line._asdict() for line in lines])
    width = max(len(line.key) for line in lines)
    for line in lines:
        time = "cached" if line.cached else cost.say_seconds(line.seconds)
        print(f"{line.key:<{width}} {line.fingerprint[:16]}  {time}")
    print(cost.total(lines, _num_slots(None)))
    return None


@app.command("run")
def run_study(
    study: StudyArgument,
    overrides: Overrides = None,
    store: StoreOption = DEFAULT_STORE,
    report: ReportOption = None,
    slots: SlotsOption = None,
    workers: WorkersOption = 0,
    device: DeviceOption = "auto",
) -> None:
    """Run what is missing of a study and write its report; the same command continues it."""
    execution = {"workers": workers, "device": device}
    _run_study(study, overrides or [], store, report, slots, execution)


@app.command("retry")
def retry_study(
    study: StudyArgument,
    overrides: Overrides = None,
    store: StoreOption = DEFAULT_STORE,
    report: ReportOption = None,
    slots: SlotsOption = None,
) -> None:
    """Forget the recorded failures of a study and run it again."""
    from whytransfer.study.run import retry

    plan, opened = plan_of(study, overrides or [], store)
    for key in retry(plan, opened):
        say(f"trying again: {key}")
    _run_study(study, overrides or [], store, report, slots)


@app.command("status")
def status_study(
    study: StudyArgument,
    overrides: Overrides = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Say which nodes are done, begun, failed or still to do."""
    from whytransfer.study.run import status

    plan, opened = plan_of(study, overrides or [], store)
    states = status(plan, opened)
    if as_json:
        return print_json([state._asdict() for state in states])
    width = max(len(state.key) for state in states)
    for state in states:
        print(f"{state.key:<{width}} {state.state:<8} {state.text}".rstrip())
    return None


def results(
    store: Annotated[Path, typer.Argument(help="Folder that holds the artifacts.")],
    as_json: JsonOption = False,
) -> None:
    """Print every metric and finding as flat rows: no times, no paths, so two runs compare."""
    from whytransfer.core.records import Metric
    from whytransfer.study import rows

    found = rows.flat(existing(store))
    if as_json:
        return print_json(found)
    for row in found:
        metric = Metric(**{name: row[name] for name in Metric.model_fields})
        print(f"{row['stage']:<9} {row['plugin']:<18} {row['fingerprint']} {metric_line(metric)}")
    return None


def report(
    store: Annotated[Path, typer.Argument(help="Folder that holds the artifacts.")],
    study: Annotated[
        str | None, typer.Option("--study", help="Which, where there are several.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The page; default: in the store.")
    ] = None,
) -> None:
    """Write the page of a study again from what the store holds."""
    from whytransfer.core.errors import nearest
    from whytransfer.report import kept

    found = {result.name: result for result in kept.read_all(existing(store).root)}
    if not found:
        raise InputError(store, "holds no finished study", "a store", "`whytransfer study run` one")
    if study is None and len(found) > 1:
        raise InputError(store, f"holds several studies ({', '.join(found)})", "--study NAME")
    name = study or next(iter(found))
    if name not in found:
        raise InputError(
            f"study {name!r}", "not in this store", ", ".join(found), nearest(name, found)
        )
    print(_write_page(found[name], store, out))


def _num_slots(asked: int | None) -> int:
    from whytransfer.core.environment import num_cores

    return asked or min(2, num_cores())


def _run_study(
    study: str,
    overrides: list[str],
    store: Path,
    page: Path | None,
    slots: int | None,
    execution: dict[str, Any] | None = None,
) -> None:
    from whytransfer.core.config import build
    from whytransfer.core.stage import Execution
    from whytransfer.report import headline
    from whytransfer.study import results
    from whytransfer.study.run import run

    plan, opened = plan_of(study, overrides, store)
    how = build(Execution, execution or {}, "command line")
    missing = len(plan.missing(opened))
    say(f"study {plan.spec.name}: {missing} of {len(plan.nodes)} steps to do, in {store}")
    failed = run(plan, opened, num_slots=_num_slots(slots), execution=how, watch=_watch)
    result = results.collect(plan, opened, failed)
    print(headline(result))
    if plan.spec.seeds_caveat:
        print(plan.spec.seeds_caveat)
    print(f"report: {_write_page(result, store, page)}")
    if failed:
        for outcome in failed.values():
            say(f"error: {outcome.key}: {outcome.reason}")
        sys.exit(2 if all(outcome.user_error for outcome in failed.values()) else 1)


def _watch(event: "Event") -> None:
    if event.state == "cached":
        return
    time = f" ({event.seconds:.0f} s)" if event.seconds else ""
    left = f", {event.num_left} waiting" if event.state in ("started", "done") else ""
    text = f": {event.text}" if event.text else ""
    say(f"{event.state:<8} {event.key}{time}{left}{text}")


def _write_page(result: "StudyResult", store: Path, out: Path | None) -> Path:
    import whytransfer.report

    return whytransfer.report.write(result, out or store / f"{result.name}.html")
