"""A YAML file with the line of each of its values, for errors that name it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hepdecorr.errors import InputError

Place = tuple[str | int, ...]  # keys and indices that lead to a value of the YAML


class _Loader(yaml.SafeLoader):
    """Takes 1e-3 for a number, too, which for YAML 1.1 is a word: there it must be 1.0e-3."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class Document:
    """A YAML file with the line on which each value stands."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.shown = path
        try:
            self.text = path.read_text()
        except OSError as err:
            raise InputError(
                f"{path}: cannot be read ({err.strerror}); give the path of a YAML file"
            ) from None
        except UnicodeDecodeError:
            raise InputError(f"{path}: not a text file; give a YAML file") from None
        self.lines: dict[Place, int] = {}
        try:
            node = yaml.compose(self.text, Loader=yaml.SafeLoader)
            self._note(node, ())
            self.content = read_value(self.text)
        except yaml.MarkedYAMLError as err:
            line = err.problem_mark.line + 1 if err.problem_mark else 1
            raise InputError(f"{path}:{line}: not valid YAML: {err.problem}") from None
        except yaml.YAMLError as err:
            raise InputError(f"{path}: not valid YAML: {str(err).splitlines()[0]}") from None
        except RecursionError:
            raise InputError(
                f"{path}: an anchor (&) contains itself, or the YAML is nested too deep"
            ) from None

    def _note(self, node: yaml.Node | None, place: Place) -> None:
        if node is None:
            return
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise InputError(f"{self.shown}:{key.start_mark.line + 1}: a key must be a single word")
                inner = (*place, key.value)
                if inner in self.lines:
                    # PyYAML would keep the last one and say nothing.
                    raise InputError(
                        f"{self.shown}:{key.start_mark.line + 1}: {key.value!r} stands here twice"
                    )
                self.lines[inner] = key.start_mark.line + 1
                self._note(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                self._note(value, (*place, i))

    def at(self, place: Sequence[str | int]) -> str:
        """'file.yaml:LINE: key.key'; of the nearest ancestor where the value itself is absent."""
        path = tuple(place)
        while path and path not in self.lines:
            path = path[:-1]
        name = ".".join(map(str, place))
        return f"{self.shown}:{self.lines.get(path, 1)}" + (f": {name}" if name else "")


def read_yaml(path: Path) -> Any:
    """Content of a YAML file; InputError names the line of a fault or of a key that stands twice."""
    return Document(path).content


def read_value(text: str) -> Any:
    """What a piece of YAML says; yaml.YAMLError where it is none."""
    return yaml.load(text, Loader=_Loader)


def read_values(text: str) -> list[Any]:
    """Values with commas between them, each as YAML has it: '1, 2.5e-3, [64, 64]'; InputError if none is."""
    try:
        values = read_value(f"[{text}]")
    except yaml.YAMLError:
        values = None
    if not isinstance(values, list) or not values or None in values:
        raise InputError(f"{text!r}: write values with commas between them, such as 1,2,5")
    return values


def written(value: Any) -> str:
    """A value as YAML reads it back: for a float, always as a number."""
    return yaml.safe_dump(value, default_flow_style=True, width=1_000_000).removesuffix("...\n").strip()
