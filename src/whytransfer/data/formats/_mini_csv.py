"""The lists of mini-ImageNet, ``filename,label``, and where the images that they name lie.

Source: Ravi & Larochelle 2017, whose lists lie in twitter/meta-learning-lstm; the rule for
full-size ImageNet is that of wyharveychen/CloserLookFewShot, filelists/miniImagenet: the last five
digits of a name are the image's place, counted from 1, among the training images of its class in
the order of their numbers.
"""

import csv
import functools
import re
from collections.abc import Mapping
from pathlib import Path

from whytransfer.core.errors import InputError
from whytransfer.data.format import distinct, other_level
from whytransfer.data.formats._lists import Line, absent, images_below, read_lines
from whytransfer.data.formats._mini_images import Part, sorted_part
from whytransfer.data.images import is_image

HEADER = ["filename", "label"]
_NUMBERED = re.compile(r"_(\d+)\.\w+$")
_DIGITS = 5
_CORRECT = "correct the line"


def read_csv(
    root: Path, name: str, images: Path, imagenet: Path | None
) -> tuple[Part, list[InputError]]:
    """Reads one list and finds its images.

    Args:
        root: The folder of the lists.
        name: ``train``, ``val`` or ``test``.
        images: The folder that holds all images.
        imagenet: The train folder of full-size ImageNet, which takes its place where given.

    Raises:
        InputError: The list or the folder is missing, or the list is none.
    """
    listing = root / f"{name}.csv"
    if not listing.is_file():
        todo = other_level(root, recognise_csv) or "add it: all three lists are needed"
        raise InputError(listing, "no such file", "a list filename,label", todo)
    rows, problems = _rows(listing)
    if imagenet is None:
        folder = _folder(images, "listed", "set images: to it, or imagenet: to ImageNet's train")
        present = {path.name for path in folder.iterdir() if is_image(path.name)}
        missing = [line for line in rows.values() if line.text not in present]
        problems += absent(listing, missing, len(rows), folder)
        gone = {line.text for line in missing}
        paths = {file: folder / file for _, file in rows if file not in gone}
    else:
        folder = _folder(imagenet, "training", "set imagenet: to the folder of the class folders")
        paths, found = _in_imagenet(listing, rows, folder)
        problems += found
    kept = {file: (label, paths[file]) for label, file in rows if file in paths}
    return sorted_part(listing, kept, [listing]), list(distinct(problems))


def recognise_csv(path: Path) -> dict[str, str] | None:
    """Returns the form if one of the three lists is here."""
    found = (path / f"{name}.csv" for name in ("train", "val", "test"))
    return {"form": "csv"} if any(map(_is_list, found)) else None


def _is_list(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [cell.strip() for cell in file.readline(64).split(",")] == HEADER
    except (OSError, UnicodeDecodeError):
        return False


def _rows(listing: Path) -> tuple[dict[tuple[str, str], Line], list[InputError]]:
    """Returns (label, file) → its line, and what is wrong with other lines."""
    first, *lines = read_lines(listing, "images")
    if [cell.strip() for cell in first.text.split(",")] != HEADER:
        raise InputError(
            f"{listing}, line {first.number}", f"is {first.text[:60]!r}", ",".join(HEADER),
            "write the names of the two columns there",
        )  # fmt: skip
    rows: dict[tuple[str, str], Line] = {}
    seen: dict[str, int] = {}
    problems = []
    for line, cells in zip(lines, csv.reader(line.text for line in lines), strict=True):
        where = f"{listing}, line {line.number}"
        file, label = (cell.strip() for cell in cells) if len(cells) == 2 else ("", "")
        if not file or not label:
            problems.append(InputError(where, f"is {line.text[:60]!r}", "filename,label", _CORRECT))
        elif file in seen:
            found = f"lists {file} again, as line {seen[file]} does"
            problems.append(InputError(where, found, "each image once", "remove one of the lines"))
        else:
            seen[file] = line.number
            rows[label, file] = Line(line.number, file)
    if not rows:
        problems.append(InputError(listing, "lists no image", "filename,label per image"))
    return rows, problems


def _folder(folder: Path, what: str, todo: str) -> Path:
    if not folder.is_dir():
        raise InputError(folder, "no such folder", f"the folder of the {what} images", todo)
    return folder


def _in_imagenet(
    listing: Path, rows: Mapping[tuple[str, str], Line], folder: Path
) -> tuple[dict[str, Path], list[InputError]]:
    """Finds the images by their numbers among those of their classes."""
    of_class = functools.cache(lambda label: _by_number(folder / label))
    paths: dict[str, Path] = {}
    problems = []
    for (label, file), line in rows.items():
        where = f"{listing}, line {line.number}"
        try:
            paths[file] = _numbered(file, of_class(label), where)
        except InputError as error:
            problems.append(error)
    return paths, problems


def _numbered(file: str, images: tuple[Path, ...], where: str) -> Path:
    digits = Path(file).stem[-_DIGITS:]
    if len(digits) < _DIGITS or not (digits.isascii() and digits.isdigit()):
        expected = f"a name that ends in {_DIGITS} digits"
        raise InputError(where, f"names {file}", expected, "give images: where the files lie")
    number = int(digits)
    if not 1 <= number <= len(images):
        folder = images[0].parent
        found = f"{file} is image {number} of its class, and {folder} has {len(images)}"
        raise InputError(where, found, f"1 to {len(images)}", "complete ImageNet's train folder")
    return images[number - 1]


def _by_number(folder: Path) -> tuple[Path, ...]:
    """Lists ImageNet's images of a class in the order of the numbers in their names."""
    expected = "ImageNet's training images of that class, as <class>_<number>.JPEG"
    if not folder.is_dir():
        raise InputError(folder, "no such folder", expected, "complete ImageNet's train folder")
    numbered = []
    for name in images_below(folder):
        match = _NUMBERED.search(name)
        if match is None:
            raise InputError(folder / name, "has no number in its name", expected, "remove it")
        numbered.append((int(match[1]), folder / name))
    if not numbered:
        raise InputError(folder, "no image in it", expected, "complete ImageNet's train folder")
    return tuple(path for _, path in sorted(numbered))
