import sys

import pytest

from whytransfer.core import plugins
from whytransfer.core.errors import InputError


def test_unknown_names_get_the_nearest_match():
    with pytest.raises(InputError, match=r"method 'moco2': unknown.*did you mean 'moco_v2'"):
        plugins.find("method", "moco2")


def test_a_dotted_path_works_like_a_name(tmp_path, monkeypatch):
    (tmp_path / "mylab_thing.py").write_text('"""A lab\'s own world."""\nConfig = write = None\n')
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "__init__.py").write_text("")
    good = '"""A lab\'s own world.\n\nMore."""\nConfig = FORMAT = DATASET = write = None\n'
    (tmp_path / "mylab" / "world.py").write_text(good)
    (tmp_path / "mylab" / "half.py").write_text('"""Half."""\nConfig = None\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugins.find("world", "mylab.world").Config is None
    assert plugins.describe("world", "mylab.world") == "A lab's own world."
    with pytest.raises(InputError, match="does not define FORMAT, DATASET, write"):
        plugins.find("world", "mylab.half")
    with pytest.raises(InputError, match="can't be imported"):
        plugins.find("world", "mylab.absent")
    for name in [n for n in sys.modules if n.startswith("mylab")]:
        del sys.modules[name]


def test_the_source_is_part_of_the_identity(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "labpkg").mkdir()
    (tmp_path / "labpkg" / "__init__.py").write_text("")
    file = tmp_path / "labpkg" / "m.py"
    file.write_text("a = 1\n")
    first = plugins.identity("method", "labpkg.m")
    file.write_text("a = 1\r\n")
    assert plugins.identity("method", "labpkg.m") == first
    file.write_text("a = 2\n")
    assert plugins.identity("method", "labpkg.m")["source"] != first["source"]


@pytest.mark.parametrize("kind", sorted(plugins.PACKAGES))
def test_every_shipped_plugin_says_what_it_is(kind):
    assert plugins.names(kind)
    for name in plugins.names(kind):
        line = plugins.describe(kind, name)
        assert line.endswith((".", "?")) and len(line) <= 100
