"""Times pieces of work against each other: in turns, medians of ratios, because machines drift."""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable


def time_once(work: Callable[[], object]) -> float:
    """Returns the seconds that one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Times every piece once per round, in turns, after one round that is not counted."""
    for work in works.values():
        work()
    rounds_of_times = [[time_once(work) for work in works.values()] for _ in range(rounds)]
    return dict(zip(works, map(list, zip(*rounds_of_times, strict=True)), strict=True))


def ratio(times: dict[str, list[float]], peer: str, ours: str) -> float:
    """Returns how many times as fast ours is as the peer: the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(times[peer], times[ours], strict=True))


def report(result: dict[str, object]) -> None:
    """Prints a result: one JSON object with ``--json``, else a line per entry."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    result = {"machine": platform.processor() or platform.machine(), **result}
    if parser.parse_args().json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name}: {value}")
