"""Objects by name: `{type: Name, **arguments}` becomes `Name(**arguments)`; the only importer by name."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from hepdecorr.config.options import check_options, signature_options
from hepdecorr.errors import InputError, suggest


def find(name: str, *, namespace: str, base: Path | None = None) -> Any:
    """What `name` stands for: a bare name of the module `home`, 'module:Name' or 'path/file.py:Name'.

    A relative path counts from `base` (the folder of the YAML), or from the working directory.
    Raises InputError, with the nearest name there is.
    """
    where, _, attribute = name.rpartition(":")
    from_file = where.endswith(".py")
    module = load_file((base or Path()) / where) if from_file else _import_module(where or namespace, name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise InputError(
            f"no {attribute!r} in {where or namespace}{suggest(attribute, public_names(module))}"
        ) from None


def public_names(module: ModuleType) -> list[str]:
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


def build(spec: Mapping[str, Any] | str, *, namespace: str, base: Path | None = None, **context: Any) -> Any:
    """Build `Name(**arguments)` from the block `{type: Name, **arguments}`.

    Args:
        spec: Block of the YAML; a bare string stands for `{type: string}`.
        namespace: Module in which a bare name is looked up.
        base: Folder from which the path of a user's file counts; passed on if the signature has it.
        **context: Values that only the program knows, such as the number of features; each is passed on if
            the signature has it.

    Returns:
        The object.

    Raises:
        InputError: If the name or an option is unknown, an option is missing, or a value does not fit its
            type in the signature.  The location of the error leads to the option.
    """
    arguments = {"type": spec} if isinstance(spec, str) else _require_block(spec)
    name = arguments.pop("type", None)
    if not isinstance(name, str):
        raise InputError(f"{_shorten(spec)}: name the class with 'type: NAME'")
    make = find(name, namespace=namespace, base=base)
    options, open_ended = signature_options(make)
    if not open_ended:
        context = {k: v for k, v in context.items() if k in options}
    if "base" in options:
        context["base"] = base
    check_options(make, arguments, name=name, context=set(context) - set(arguments))
    return make(**{**context, **arguments})


def _require_block(spec: Any) -> dict[Any, Any]:
    if not isinstance(spec, Mapping):
        raise InputError(f"expected a block {{type: NAME, ...}} or a name, got {_shorten(spec)}")
    return dict(spec)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _import_module(module: str, requested_name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as err:
        if err.name and module.startswith(err.name):
            raise InputError(
                f"{requested_name!r}: there is no module {module!r}; install it or give 'path/file.py:Name'"
            ) from None
        raise
