"""Plug-ins: one file adds a thing; its name is its module; a dotted path works as well.

``find("method", "moco_v2")`` imports ``whytransfer.pretrain.methods.moco_v2``;
``find("method", "mylab.ideas.moco_v9")`` imports that module of the user's. Listing and describing
read files as text, so that ``whytransfer ls`` never imports torch.
"""

import ast
import hashlib
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from whytransfer.core.errors import InputError, nearest

PACKAGES = {
    "method": "whytransfer.pretrain.methods",
    "task": "whytransfer.transfer.tasks",
    "analysis": "whytransfer.diagnose.analyses",
    "format": "whytransfer.data.formats",
    "world": "whytransfer.data.world",
    "layout": "whytransfer.backbone.layouts",
}
"""Kind of plug-in → the package whose public modules are its plug-ins."""

PROVIDES = {
    "method": ("Config", "Method"),
    "task": ("Config", "Task"),
    "analysis": ("Config", "QUESTION", "NEEDS", "answer"),
    "format": ("Config", "open", "check", "recognise"),
    "world": ("Config", "FORMAT", "DATASET", "write"),
    "layout": ("matches", "rename"),
}
"""Kind of plug-in → the names that its module must define."""


def names(kind: str) -> list[str]:
    """Lists the shipped plug-ins of a kind, sorted."""
    package = _origin(PACKAGES[kind])
    return sorted(p.stem for p in package.parent.glob("*.py") if not p.stem.startswith("_"))


def find(kind: str, name: str) -> ModuleType:
    """Imports the plug-in of that name, or the module of that dotted path.

    Raises:
        InputError: There is none of that name, or the module lacks what its kind must provide.
    """
    if "." in name:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise InputError(
                name, f"can't be imported ({error})", f"the module of a {kind}"
            ) from None
    elif name in names(kind):
        module = importlib.import_module(f"{PACKAGES[kind]}.{name}")
    else:
        known = names(kind)
        raise InputError(
            f"{kind} {name!r}", "unknown", "one of " + ", ".join(known), nearest(name, known)
        )
    missing = [attribute for attribute in PROVIDES[kind] if not hasattr(module, attribute)]
    if missing:
        wanted = ", ".join(PROVIDES[kind])
        raise InputError(name, f"does not define {', '.join(missing)}", f"a {kind}: {wanted}")
    return module


def describe(kind: str, name: str) -> str:
    """Returns the first line of a plug-in's docstring, without importing it."""
    module = name if "." in name else f"{PACKAGES[kind]}.{name}"
    docstring = ast.get_docstring(ast.parse(_origin(module).read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def identity(kind: str, name: str) -> dict[str, Any]:
    """Names a plug-in and the hash of its source, for fingerprints.

    The source is the module itself and the private modules (``_x.py``) beside it, which plug-ins
    of one package share.
    """
    origin = _origin(name if "." in name else f"{PACKAGES[kind]}.{name}")
    shared = sorted(p for p in origin.parent.glob("_*.py") if p.name != "__init__.py")
    digest = hashlib.sha256()
    for path in (origin, *shared):
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return {"name": name, "source": digest.hexdigest()}


def _origin(module: str) -> Path:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise InputError(module, "no such module", "a name from `whytransfer ls` or a dotted path")
    return Path(spec.origin)
