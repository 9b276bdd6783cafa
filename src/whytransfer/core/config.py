"""Typed configuration: pydantic models ↔ YAML ↔ dotted overrides, all errors at once.

Every default stands once, in the field of the model that uses it. A setting that the paper's
sources leave open is declared with :func:`assumed`, so that records and reports can list it and
never pass it off as the paper's.
"""

import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from whytransfer.core.errors import InputError, InputErrors, nearest
from whytransfer.core.records import Assumption


class Config(BaseModel):
    """The base of every configuration: frozen, unknown keys refused, defaults checked too."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


ConfigT = TypeVar("ConfigT", bound=BaseModel)


def assumed(default: Any, reason: str, **constraints: Any) -> Any:
    """Declares a field whose value the paper's sources leave open, with the reason for it.

    Args:
        default: The value used where the user gives none.
        reason: Why this value; shown in record and report beside it.
        constraints: Further arguments of ``pydantic.Field``, such as ``ge``.
    """
    return Field(default, json_schema_extra={"assumed": reason}, **constraints)


def assumptions(config: BaseModel, prefix: str = "") -> Iterator[Assumption]:
    """Yields every assumed setting of a configuration, nested ones with their dotted path."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "assumed" in extra:
            plain = config.model_dump(mode="json", include={name})[name]
            yield Assumption(field=prefix + name, value=plain, reason=str(extra["assumed"]))
        elif isinstance(value, BaseModel):
            yield from assumptions(value, f"{prefix}{name}.")


def build(model: type[ConfigT], values: Mapping[str, Any], where: str) -> ConfigT:
    """Checks plain values against a model; raises all problems at once.

    Args:
        model: The configuration class.
        values: Nested plain data, as YAML gives it.
        where: The file or command that the values came from, for the messages.

    Raises:
        InputErrors: One line per problem: dotted path, what was found, what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputErrors([_problem(model, detail, where) for detail in error.errors()]) from None


def _problem(model: type[BaseModel], detail: ErrorDetails, where: str) -> InputError:
    path = ".".join(str(part) for part in detail["loc"])
    field = f"{where}, field {path}" if path else where
    if detail["type"] == "extra_forbidden":
        allowed = sorted(_fields_at(model, detail["loc"][:-1]))
        hint = nearest(str(detail["loc"][-1]), allowed)
        return InputError(field, "unknown field", "one of " + ", ".join(allowed), hint)
    if detail["type"] == "missing":
        return InputError(field, "missing", "a value", f"add {path}: ...")
    found = f"found {detail['input']!r}"
    if detail["type"] == "literal_error":
        expected = str(detail["ctx"]["expected"])
        allowed = [part.strip("' ") for part in expected.replace(" or ", ",").split(",")]
        return InputError(field, found, expected, nearest(str(detail["input"]), allowed))
    return InputError(field, found, detail["msg"][:1].lower() + detail["msg"][1:])


def _fields_at(model: type[BaseModel], path: Iterable[int | str]) -> set[str]:
    """Names the fields of the model that stands at a path, seen through optional and container."""
    current: Any = model
    for part in path:
        fields = getattr(current, "model_fields", {})
        if part in fields:
            current = next(iter(_models_in(fields[part].annotation)), None)
    return set(getattr(current, "model_fields", {}))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping; duplicate keys, tags and non-mappings are refused.

    Raises:
        InputError: The file is missing, is no YAML, or does not hold a mapping.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "a YAML file", "check the path")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(path, f"not readable as YAML ({reason})", "a YAML mapping") from None
    if not isinstance(values, dict):
        raise InputError(path, f"holds {type(values).__name__}", "a YAML mapping of fields")
    return values


class _UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, refusing a key that stands twice: the second would win unseen."""


_MERGE = "tag:yaml.org,2002:merge"


def _unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = "<<" if key_node.tag == _MERGE else loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(k): loader.construct_object(v, deep=True) for k, v in node.value
    }


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def override(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Applies ``a.b=value`` assignments to nested plain data and returns a new mapping.

    The value is read as YAML, so ``lr=0.03`` is a number and ``crop_scale=[0.2, 1]`` a list.

    >>> override({"train": {"lr": 1}}, ["train.lr=0.03"])
    {'train': {'lr': 0.03}}

    Raises:
        InputError: An assignment has no ``=``, an empty name, or goes through a plain value.
    """
    result: dict[str, Any] = _copy(values)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        parts = path.strip().split(".")
        if not equals or not all(parts):
            raise InputError(assignment, "not an override", "field=value or group.field=value")
        target = result
        for part in parts[:-1]:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise InputError(assignment, f"{part} is a plain value", "a group of fields")
        try:
            target[parts[-1]] = _scalar(text)
        except yaml.YAMLError:
            raise InputError(assignment, "the value is not readable as YAML") from None
    return result


def _scalar(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):
        # YAML 1.1 reads 1e-4 as text; everybody who types it means the number.
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _copy(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _copy(value) for key, value in values.items()}
    return [_copy(value) for value in values] if isinstance(values, list) else values


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merges nested mappings; where both have a plain value, the second wins.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    result: dict[str, Any] = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if both else value
    return result


def to_plain(config: BaseModel) -> dict[str, Any]:
    """Returns a configuration as plain data that :func:`build` reads back to an equal one."""
    return config.model_dump(mode="json")


def to_yaml(config: BaseModel) -> str:
    """Writes a configuration as YAML, fields in the order of their declaration."""
    return yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
