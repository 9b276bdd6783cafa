"""Preflight: is the dataset in this folder whole, and what is in it?"""

from collections.abc import Mapping
from typing import Any

from whytransfer.core import plugins
from whytransfer.core.config import build
from whytransfer.data.dataset import parse_reference
from whytransfer.data.format import Report


def check(reference: str, fields: Mapping[str, Any] | None = None) -> Report:
    """Counts what a dataset holds and lists all that is wrong with it; decodes every image.

    Args:
        reference: ``format:folder``, or a folder whose format is recognised by looking.
        fields: Fields of the format that stand instead of the recognised ones.

    Raises:
        InputError: The folder is missing, has no known format, or lies at the wrong level, or a
            field is unknown.
    """
    spec = parse_reference(reference) | dict(fields or {})
    module = plugins.find("format", str(spec.pop("format")))
    report: Report = module.check(build(module.Config, spec, f"data check {reference}"))
    return report
