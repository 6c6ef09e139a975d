"""Options typed by signatures: pydantic models built from the classes and functions that YAML names.

The signature is the only place where an option is typed.  `Annotated[float, Field(ge=0)]` states its range;
the YAML, the error message, `hepdecorr describe` and the JSON schema read it from there.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, create_model
from pydantic.fields import FieldInfo

from hepdecorr.errors import InputError, suggest

_CONTAINERS = (tuple, set, frozenset)


@dataclass(frozen=True)
class Block:
    """Marks a parameter whose value is a block `{type: NAME, ...}` or a list of such blocks.

    Use it as `Annotated[Sequence[Mapping[str, Any]], Block("hepdecorr.training.losses")]`.  It does not
    change the validation: the class that reads the block builds it with `registry.build`.

    Args:
        home: Module whose public names the block's `type` may take.
    """

    home: str


@dataclass(frozen=True)
class Option:
    """One parameter that YAML may set.

    Attributes:
        name: Name of the parameter.
        annotation: Type with its constraints, `Any` if the signature has none.
        default: Default value, `inspect.Parameter.empty` if the option is required.
    """

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether the option has no default."""
        return self.default is inspect.Parameter.empty


def signature_options(make: Callable[..., Any]) -> tuple[dict[str, Option], bool]:
    """List the parameters of a class or function, those behind `**kwargs` of base classes included.

    Args:
        make: Class or function.

    Returns:
        The options by name, and whether further keyword arguments are accepted.

    Raises:
        InputError: If `make` has no signature.
    """
    functions = _initialisers(make) if isinstance(make, type) else [make]
    options: dict[str, Option] = {}
    open_ended = False
    for function in functions:
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            raise InputError(f"{make!r} cannot be built: it is not a class or function") from None
        hints = _type_hints(function)
        # A field of a dataclass has the type of its class.
        if isinstance(make, type) and is_dataclass(make):
            hints = _type_hints(make) | hints
        open_ended = False
        for i, parameter in enumerate(parameters):
            if i == 0 and isinstance(make, type) and parameter.name == "self":
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                open_ended = True
            elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                annotation = hints.get(parameter.name, Any)
                options.setdefault(parameter.name, Option(parameter.name, annotation, parameter.default))
        if not open_ended:
            break
    return options, open_ended


def _initialisers(cls: type) -> list[Any]:
    found = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    return [function for function in found if isinstance(function, types.FunctionType)]


def _type_hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        # Names that are imported for type checking only: resolve the others one by one.
        hints = {}
        space = getattr(function, "__globals__", vars(inspect.getmodule(function) or types))
        for name, annotation in getattr(function, "__annotations__", {}).items():
            try:
                hints[name] = eval(annotation, dict(space)) if isinstance(annotation, str) else annotation
            except (NameError, TypeError, AttributeError):
                hints[name] = Any
        return hints


def options_model(make: Callable[..., Any], *, context: Collection[str] = ()) -> type[BaseModel]:
    """Build the strict pydantic model of a class's or function's options.

    Args:
        make: Class or function that YAML names.
        context: Parameters that the program passes itself; they are no options.

    Returns:
        A model that forbids unknown keys (unless `make` takes any) and converts nothing: a string is no
        number, a boolean is no integer, and a float is finite.
    """
    return _options_model(make, frozenset(context))


@lru_cache(maxsize=1024)
def _options_model(make: Callable[..., Any], context: frozenset[str]) -> type[BaseModel]:
    options, open_ended = signature_options(make)
    fields: dict[str, Any] = {}
    for i, option in enumerate(o for o in options.values() if o.name not in context):
        # Field names of pydantic must not begin with an underscore or shadow a method: aliases may.
        default = ... if option.required else option.default
        fields[f"option_{i}"] = (_strict(option.annotation), Field(default, alias=option.name))
    config = ConfigDict(
        strict=True,
        extra="allow" if open_ended else "forbid",
        arbitrary_types_allowed=True,
        allow_inf_nan=False,
    )
    return create_model(getattr(make, "__name__", "Options"), __config__=config, **fields)


def _strict(annotation: Any) -> Any:
    """The annotation for values from YAML: a list stands for a tuple, a string for a path."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(_strict(arguments[0]), *arguments[1:])]
    if origin in _CONTAINERS:
        inner = tuple(a if a is Ellipsis else _strict(a) for a in arguments)
        return Annotated[origin[inner], Strict(False)]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_strict(a) for a in arguments)]  # noqa: UP007
    if annotation is Path:
        return Annotated[Path, Strict(False)]
    return annotation


def check_options(
    make: Callable[..., Any], values: Mapping[str, Any], *, name: str, context: Collection[str] = ()
) -> None:
    """Validate the options of a block against the signature of the class that it names.

    Args:
        make: Class or function.
        values: Options as the YAML states them.
        name: Name of the class, for the message.
        context: Parameters that the program passes itself.

    Raises:
        InputError: With the location of the first wrong option, what it must be, and the nearest name if
            it is unknown.
    """
    for key in values:
        if not isinstance(key, str):
            raise InputError(f"{name}: the name of an option is a string, got {key!r}")
    try:
        options_model(make, context=context).model_validate(dict(values))
    except ValidationError as err:
        raise _explain(err, make, name=name, context=context) from None
    except RecursionError:
        raise InputError(f"{name}: the options are nested too deep") from None


def _explain(
    error: ValidationError, make: Callable[..., Any], *, name: str, context: Collection[str]
) -> InputError:
    options, _ = signature_options(make)
    known = [option for option in options if option not in context]
    first = error.errors(include_url=False)[0]
    key = first["loc"][0] if first["loc"] else ""
    if first["type"] == "missing":
        return InputError(f"{name} needs {key!r}")
    if first["type"] == "extra_forbidden":
        return InputError(f"{name} takes no {key!r}{suggest(str(key), known)}", location=(key,))
    # The branches of a union follow the key in the location; only indices and keys of the value matter.
    value, location = first["input"], [key]
    expected = describe_type(options[str(key)].annotation) if str(key) in options else "another value"
    if len([e for e in error.errors(include_url=False) if e["loc"][:1] == (key,)]) == 1:
        location += [part for part in first["loc"][1:] if isinstance(part, int)]
        expected = _message(first["type"], first.get("ctx", {}), first["msg"]) or expected
    return InputError(f"expected {expected}, got {_shown(value)}", location=tuple(location))


_MESSAGES = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "string_type": "a string",
    "finite_number": "a finite number",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "list_type": "a list",
    "tuple_type": "a list",
    "is_instance_of": "",
    "sequence_str": "",
}
_BOUNDS = {
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
}


def _message(kind: str, details: Mapping[str, Any], message: str) -> str:
    if kind in _BOUNDS:
        return f"a number {_BOUNDS[kind].format(**details)}"
    if kind == "literal_error":
        return f"one of {details['expected']}"
    if kind in _MESSAGES:
        return _MESSAGES[kind]
    return message[0].lower() + message[1:]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def describe_type(annotation: Any) -> str:
    """State a type with its range in words, such as 'a number from 0 to 1'.

    Args:
        annotation: Type annotation of an option.

    Returns:
        The description.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        base = describe_type(arguments[0])
        return base + "".join(_range_text(extra) for extra in arguments[1:])
    if origin in (typing.Union, types.UnionType):
        words = [describe_type(a) for a in arguments if a is not type(None)]
        return " or ".join(dict.fromkeys(words)) + (" or null" if type(None) in arguments else "")
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping of keys to values"
    if isinstance(origin, type) and issubclass(origin, Sequence | set | frozenset):
        inner = [a for a in arguments if a is not Ellipsis]
        return "a list" + (f" of {_plural(describe_type(inner[0]))}" if inner else "")
    names: dict[Any, str] = {
        float: "a number",
        int: "a whole number",
        bool: "true or false",
        str: "a string",
        Path: "a path",
        Any: "any value",
    }
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _plural(text: str) -> str:
    head, _, tail = text.removeprefix("a ").partition(" ") if text.startswith("a ") else (text, "", "")
    if head == "whole":
        return "whole numbers" + tail.removeprefix("number")
    return f"{head}s{' ' + tail if tail else ''}" if text.startswith("a ") else text


def _range_text(extra: Any) -> str:
    items = extra.metadata if isinstance(extra, FieldInfo) else [extra]
    bounds = {
        k: getattr(i, k) for i in items for k in ("gt", "ge", "lt", "le") if getattr(i, k, None) is not None
    }
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    return "".join(f", {words[k]} {v:g}" for k, v in bounds.items())
