"""The chart library that every page carries: Vega, Vega-Lite and Vega-Embed as one script."""

import contextlib
import os
from importlib.metadata import version
from pathlib import Path

from whytransfer.core.errors import InputError
from whytransfer.core.store import write_text

_END = "/* end of vega bundle */"


def script() -> str:
    """Returns the script (0.9 MB), safe to stand inside ``<script>``.

    vl-convert needs seconds to put it together and always gives the same for one version, so it
    is kept in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``); where that can't be
    written, it is made anew each time.
    """
    cached = _cache_folder() / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = cached.read_text(encoding="utf-8")
        if text.endswith(_END):
            return text
    text = _bundle()
    with contextlib.suppress(OSError, InputError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_text(cached, text)
    return text


def _bundle() -> str:
    import vl_convert

    text = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    return text.replace("</script", "<\\/script") + "\n" + _END


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "whytransfer"
