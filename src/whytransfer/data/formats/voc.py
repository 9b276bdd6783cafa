"""Pascal VOC's devkit: ``VOC2007/{Annotations,ImageSets/Main,JPEGImages}``, boxes as XML.

Any years that lie beside each other are read, and the union of several as one split. The images of
a set come in the order of their names. An image is named as in its set, ``000005``; where a split
joins several years the year stands before it, ``2007/000005``.

VOC counts pixels from 1 and includes the last one, so a box becomes (xmin - 1, ymin - 1, xmax,
ymax) in continuous 0-based pixels, as in detectron2 pascal_voc.py @02b5c4e. One that sticks out
of its image by up to a pixel is clipped, as there in training; by more, it is an error.

Source: Everingham et al. 2010 and the VOC2007 development kit.
"""

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from whytransfer.core.errors import InputError, nearest
from whytransfer.data.format import (
    FormatConfig,
    Report,
    distinct,
    other_level,
    refuse,
    require_folder,
)
from whytransfer.data.formats._detection import (
    Annotated,
    Box,
    DetectionSource,
    Entry,
    duplicates,
    fit_box,
    named_files,
    unreadable,
    without_boxes,
)
from whytransfer.data.formats._leaks import shared
from whytransfer.data.images import SUFFIXES, image_size
from whytransfer.data.sample import Source, Split

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The twenty classes, in the devkit's order."""

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_NAMES = "object/name"
_SET = re.compile(r"(?P<year>\d{4})_(?P<name>\w+)")
_YEAR = re.compile(r"VOC\d{4}")
_FIRST_YEAR = "2007"
_NUM_SAMPLED = 20
_CORRECT = "correct the file or take it out of the image set"


class Config(FormatConfig):
    """Which image sets are read, and which classes there are.

    Attributes:
        root: The folder that holds ``VOC2007`` (the devkit), or ``VOC2007`` itself.
        train: Image sets, each ``<year>_<name>``, one after the other:
            ``[2007_trainval, 2012_trainval]`` is what is called 07+12.
        test: The same for the test images; empty where there are none.
        classes: ``voc`` for the twenty of VOC, ``infer`` for the names found in the annotations
            of all these sets, sorted, or a list of names.
    """

    train: tuple[str, ...] = ("2007_trainval",)
    test: tuple[str, ...] = ("2007_test",)
    classes: Literal["voc", "infer"] | tuple[str, ...] = "voc"

    @property
    def splits(self) -> tuple[Split, ...]:
        """Both splits, or ``train`` alone where no test set is named."""
        return ("train", "test") if self.test else ("train",)


@dataclass(frozen=True)
class _Object:
    name: str
    box_xyxy: Box
    difficult: bool


@dataclass
class _Scan:
    """What reading one split gave."""

    classes: tuple[str, ...]
    entries: list[Entry]
    files: list[Path]
    problems: list[InputError]


def open(config: Config, split: Split) -> Source:
    """Opens a split: reads and checks every annotation, decodes no image.

    Raises:
        InputError: A set, an annotation or an image is missing or malformed, a class is not in
            the list, or a box is inverted or outside its image.
    """
    if split not in config.splits:
        raise InputError(config.root, "has no test images (test: [])", "an image set to test on")
    scan = _scan(config, split)
    refuse(scan.problems)
    return DetectionSource(config.root, scan.classes, scan.entries, scan.files)


def check(config: Config) -> Report:
    """Reads every annotation, counts, and decodes every image."""
    counts: dict[str, int] = {}
    problems: list[InputError] = []
    read: dict[Split, list[Entry]] = {}
    for split in config.splits:
        try:
            scan = _scan(config, split)
        except InputError as error:
            problems.append(error)
            continue
        read[split] = scan.entries
        objects = [item for entry in scan.entries for item in entry.objects]
        counts["classes"] = len(scan.classes)
        counts[f"{split} images"] = len(scan.entries)
        counts[f"{split} objects"] = len(objects)
        counts[f"{split} difficult objects"] = sum(item.difficult for item in objects)
        problems += scan.problems
        problems += unreadable(config.root, scan.entries)
    problems += shared(config.root, {s: named_files(config.root, e) for s, e in read.items()})
    problems += without_boxes(config.root, read["train"]) if "train" in read else []
    return Report("voc", counts, distinct(problems), _notes(config))


def _notes(config: Config) -> tuple[str, ...]:
    """Says that nothing is tested on, and which image sets there are."""
    if config.test:
        return ()
    lists = config.root.glob("**/ImageSets/Main/*.txt")
    known = sorted(f"{file.parents[2].name.removeprefix('VOC')}_{file.stem}" for file in lists)
    todo = "name one with test:"
    if "2007_trainval" in known:
        todo += ", or unpack VOCtest_06-Nov-2007.tar over the folder, which has VOC 2007's"
    return (f"no test set (test: []); image sets found: {', '.join(known)}; {todo}",)


def recognise(path: Path) -> dict[str, Any] | None:
    """Returns the fields of ``Config`` if the folder is, or holds, a year of the devkit.

    The classes are inferred where none of the first annotations names one of the twenty.
    """
    year = next((folder for folder in _candidates(path) if _is_year(folder)), None)
    if year is None:
        return None
    sets = {file.stem for file in (year / "ImageSets" / "Main").glob("*.txt")}
    train, test = ("train", "val") if "trainval" not in sets else ("trainval", "test")
    number = year.name.removeprefix("VOC") if _YEAR.fullmatch(year.name) else _FIRST_YEAR
    fields: dict[str, Any] = {"root": str(path), "train": [f"{number}_{train}"]}
    fields["test"] = [f"{number}_{test}"] if test in sets else []
    files = sorted((year / "Annotations").glob("*.xml"))[:_NUM_SAMPLED]
    names = {name for file in files for name in _class_names(file)}
    return fields | ({"classes": "infer"} if names and not names & set(CLASSES) else {})


def _candidates(path: Path) -> list[Path]:
    return [path, *sorted(path.glob("VOC[0-9][0-9][0-9][0-9]"))]


def _is_year(folder: Path) -> bool:
    return (folder / "ImageSets" / "Main").is_dir() and (folder / "Annotations").is_dir()


def _scan(config: Config, split: Split) -> _Scan:
    """Reads one split.

    Raises:
        InputError: The folder or an image set is missing, so that nothing can be read.
    """
    scan = _Scan(_classes(config), [], [], [])
    image_sets = getattr(config, split)
    years = {image_set.partition("_")[0] for image_set in image_sets}
    for image_set in image_sets:
        year, listing = _image_set(config, image_set)
        scan.files.append(listing)
        prefix = f"{image_set.partition('_')[0]}/" if len(years) > 1 else ""
        for name in sorted(_listed(listing)):
            try:
                scan.entries.append(_entry(config.root, year, name, prefix, scan))
            except InputError as error:
                scan.problems.append(error)
    scan.problems += duplicates(scan.entries, config.root)
    return scan


def _entry(root: Path, year: Path, name: str, prefix: str, scan: _Scan) -> Entry:
    """Reads one image's annotation; what is wrong with single objects goes to the problems."""
    image = _image_file(year, name)
    file = year / "Annotations" / f"{name}.xml"
    size, found = _read(file)
    size = size or image_size(image)
    scan.files.append(file)
    objects = []
    for item in found:
        try:
            box = fit_box(item.box_xyxy, size, f"{file}, object {item.name!r}")
            label = _label(item.name, scan.classes, file)
        except InputError as error:
            scan.problems.append(error)
            continue
        objects.append(Annotated(box, label, difficult=item.difficult))
    return Entry(prefix + name, image.relative_to(root).as_posix(), size, tuple(objects))


def _label(name: str, classes: tuple[str, ...], file: Path) -> int:
    if name in classes:
        return classes.index(name)
    hint = nearest(name, classes)
    todo = f"{hint} otherwise" if hint else "correct it or"
    raise InputError(
        file, f"the class {name!r} is not in the list", f"one of {', '.join(classes)}",
        f"{todo} set classes: infer, or list the names",
    )  # fmt: skip


def _classes(config: Config) -> tuple[str, ...]:
    if config.classes == "voc":
        return CLASSES
    if config.classes != "infer":
        return config.classes
    names: set[str] = set()
    for image_set in (*config.train, *config.test):
        year, listing = _image_set(config, image_set)
        for name in _listed(listing):
            names.update(_class_names(year / "Annotations" / f"{name}.xml"))
    if not names:
        raise InputError(config.root, "no annotation names a class", "annotated objects")
    return tuple(sorted(names))


def _class_names(file: Path) -> list[str]:
    """Lists the class names of an annotation; an unreadable one is the business of ``_read``."""
    try:
        return [(name.text or "").strip() for name in ElementTree.parse(file).iterfind(_NAMES)]
    except (ElementTree.ParseError, OSError):
        return []


def _image_set(config: Config, image_set: str) -> tuple[Path, Path]:
    """Returns the folder of a set's year and the file that lists its images."""
    require_folder(config.root)
    match = _SET.fullmatch(image_set)
    if match is None:
        raise InputError(f"image set {image_set!r}", "not a set", "<year>_<name>: 2007_trainval")
    named = f"VOC{match['year']}"
    year = config.root / named
    if not year.is_dir():
        year = config.root
        other_year = _YEAR.fullmatch(year.name) and year.name != named
        if other_year or not (year / "ImageSets").is_dir():
            todo = other_level(config.root, recognise) or f"give the folder that holds {named}"
            raise InputError(config.root, f"holds no folder {named}", "a VOC devkit", todo)
    listing = year / "ImageSets" / "Main" / f"{match['name']}.txt"
    if not listing.is_file():
        known = sorted(file.stem for file in listing.parent.glob("*.txt"))
        hint = nearest(match["name"], known)
        raise InputError(listing, "no such image set", f"one of {', '.join(known) or 'none'}", hint)
    return year, listing


def _listed(listing: Path) -> list[str]:
    """Reads an image set: one name per line."""
    names = []
    try:
        text = listing.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(listing, f"can't be read ({error})", "one image name per line") from None
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if len(words) > 1:
            raise InputError(
                f"{listing}, line {number}", f"found {line.strip()!r}", "one image name per line",
                "the lists of single classes are no image sets: take trainval or test",
            )  # fmt: skip
        names += words
    if not names:
        raise InputError(listing, "lists no image", "one image name per line", "fill the list")
    return names


def _image_file(year: Path, name: str) -> Path:
    folder = year / "JPEGImages"
    for suffix in (*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise InputError(
        folder / f"{name}.jpg", "no such file, but an image set lists it", "the image",
        f"add it or take {name} out of ImageSets/Main",
    )  # fmt: skip


def _read(file: Path) -> tuple[tuple[int, int] | None, list[_Object]]:
    """Parses an annotation: (height, width) where it says so, and its objects."""
    try:
        root = ElementTree.parse(file).getroot()
    except FileNotFoundError:
        raise InputError(
            file, "no such file, but an image set lists it", "an annotation",
            f"add it or take {file.stem} out of ImageSets/Main",
        ) from None  # fmt: skip
    except ElementTree.ParseError as error:
        raise InputError(file, f"malformed XML ({error})", "a VOC annotation", _CORRECT) from None
    if root.tag != "annotation":
        raise InputError(file, f"holds <{root.tag}>", "<annotation> as its root", _CORRECT)
    _require_own(root, file)
    return _size(root, file), [_object(node, file) for node in root.iterfind("object")]


def _require_own(root: ElementTree.Element, file: Path) -> None:
    """Refuses an annotation that says it is of another image, where there is such an image.

    A name of nothing that exists is what some tools leave, and means nothing.
    """
    named = Path((root.findtext("filename") or "").strip()).stem
    if named and named != file.stem and (file.parent / f"{named}.xml").is_file():
        raise InputError(
            file, f"says that it is of the image {named}", f"the annotation of {file.stem}",
            "put each annotation under its image's name",
        )  # fmt: skip


def _size(root: ElementTree.Element, file: Path) -> tuple[int, int] | None:
    if root.find("size") is None:
        return None
    height, width = (round(_number(root, f"size/{tag}", file)) for tag in ("height", "width"))
    # Some tools write 0 for what they do not know; the image's header knows.
    return (height, width) if height > 0 and width > 0 else None


def _object(node: ElementTree.Element, file: Path) -> _Object:
    name = (node.findtext("name") or "").strip()
    if not name:
        raise InputError(file, "an object has no <name>", "a class name", _CORRECT)
    xmin, ymin, xmax, ymax = (_number(node, f"bndbox/{corner}", file) for corner in _CORNERS)
    difficult = (node.findtext("difficult") or "0").strip() == "1"
    return _Object(name, (xmin - 1, ymin - 1, xmax, ymax), difficult)


def _number(node: ElementTree.Element, path: str, file: Path) -> float:
    text = node.findtext(path)
    if text is None:
        raise InputError(file, f"<{node.tag}> has no <{path}>", "a number", _CORRECT)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(file, f"<{path}> is {text.strip()!r}", "a number", _CORRECT)
    return value
