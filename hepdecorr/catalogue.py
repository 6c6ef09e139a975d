"""Objects by name: `{type: Name, **arguments}` becomes `Name(**arguments)`; the only importer by name."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from hepdecorr.errors import InputError

_MANY = 40  # names that a message still lists


def suggest(name: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' when something close is known, else '; known are ...' (of very many a few)."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    if len(names) > _MANY:
        few = difflib.get_close_matches(name, names, 5, cutoff=0.0)
        return f"; of the {len(names)} known the nearest are {', '.join(few)}"
    return f"; known are {', '.join(names) or 'none'}"


def find(name: str, *, home: str, base: Path | None = None) -> Any:
    """What `name` stands for: a bare name of the module `home`, 'module:Name' or 'path/file.py:Name'.

    A relative path counts from `base` (the folder of the YAML), or from the working directory.
    Raises InputError, with the nearest name there is.
    """
    where, _, attribute = name.rpartition(":")
    from_file = where.endswith(".py")
    module = load_file((base or Path()) / where) if from_file else _import(where or home, name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise InputError(f"no {attribute!r} in {where or home}{suggest(attribute, public(module))}") from None


def public(module: ModuleType) -> list[str]:
    """The names a user may ask `module` for: its __all__, or else what it defines without underscore."""
    names = getattr(module, "__all__", None)
    if names is not None:
        return list(names)
    return [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]


def load_file(path: Path | str) -> ModuleType:
    """Import a user's file so that what it defines also travels to workers that lack the file.

    The module stands in sys.modules under a name made from its path *and* is pickled by value: only
    both together worked with a fresh interpreter, loky and dask workers alike.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise InputError(
            f"no file {path}; give the path of a Python file, relative to the YAML that names it"
        )
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as err:
        del sys.modules[name]
        raise InputError(f"{path} cannot be imported: {type(err).__name__}: {err}") from err
    cloudpickle.register_pickle_by_value(module)
    return module


def build(spec: Mapping[str, Any] | str, *, home: str, base: Path | None = None, **context: Any) -> Any:
    """`{type: Name, **arguments}` -> `Name(**arguments)`; a bare string stands for `{type: string}`.

    `context` holds what only the program knows, such as the number of features; it is passed where the
    signature accepts it, and so is `base`, for names within.  Raises InputError for an unknown name or
    argument.
    """
    arguments = {"type": spec} if isinstance(spec, str) else dict(spec)
    name = arguments.pop("type", None)
    if not isinstance(name, str):
        raise InputError(
            f"{dict(spec) if isinstance(spec, Mapping) else spec}: say what it is with 'type: NAME'"
        )
    make = find(name, home=home, base=base)
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):
        raise InputError(f"{name} cannot be built: it is not a class or function") from None
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for argument in arguments:
            if argument not in parameters:
                known = [p for p in parameters if p not in context]
                raise InputError(f"{name} takes no {argument!r}{suggest(argument, known)}")
        context = {k: v for k, v in context.items() if k in parameters}
    if "base" in parameters:
        context["base"] = base
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and p.name not in arguments
        and p.name not in context
    ]
    if missing:
        raise InputError(f"{name} needs {', '.join(map(repr, missing))}")
    return make(**{**context, **arguments})


def _import(module: str, asked: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as err:
        if err.name and module.startswith(err.name):
            raise InputError(
                f"{asked!r}: there is no module {module!r}; install it or give 'path/file.py:Name'"
            ) from None
        raise
