"""The command line: one verb per stage; the only package that prints.

Nothing heavy is imported before a verb needs it, so that ``--help`` and ``ls`` answer at once.
Exit status: 0 all done; 1 a node of a study crashed, or a training can't go on; 2 something given
can't be used; 130 stopped.
"""

import os
import sys
from typing import Annotated, NoReturn

import typer

import whytransfer
from whytransfer.cli import datasets, stages, stores, studies
from whytransfer.core.errors import InputError, InputErrors, TrainingError
from whytransfer.core.processes import FailedElsewhere, here

app = typer.Typer(
    help="Which pretraining transfers best to my task, and why?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(studies.demo)
app.command()(stages.ls)
app.add_typer(datasets.app, name="data")
app.command()(stages.pretrain)
app.command()(stages.transfer)
app.command()(stages.diagnose)
app.add_typer(studies.app, name="study")
app.command()(studies.results)
app.command()(studies.report)
app.add_typer(stores.app, name="store")

_INTERRUPTED = 130


def main() -> None:
    """Runs the command; a problem with what was given is one line on stderr and status 2."""
    try:
        app()
    except InputErrors as errors:
        _stop_all("\n".join(f"error: {problem}" for problem in errors.problems), 2)
    except InputError as error:
        _stop_all(f"error: {error}", 2)
    except TrainingError as error:
        _stop_all(f"error: {error}", 1)
    except FailedElsewhere:
        sys.exit(1)
    except SystemExit as end:
        if end.code == _INTERRUPTED and here().leads:  # typer's answer to KeyboardInterrupt
            _stop("stopped; the same command continues from here", _INTERRUPTED)
        raise
    except BrokenPipeError:
        # Whoever read our output (``head``) has seen enough; Python would complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop_all(message: str, status: int) -> NoReturn:
    """Ends this process; of several that torchrun started, the first to fail says why."""
    if not here().failed_first(message):
        sys.exit(1)
    _stop(message, status)


def _stop(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def _version(wanted: bool) -> None:
    if wanted:
        print(whytransfer.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Which pretraining transfers best to my task, and why?"""
