"""Trained weights beside a tagger, from which another training can start: arrays, no pickles."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError

FILE = "weights.npz"
ABOUT = "about"  # the array that says in words what no shape tells

Arrays = dict[str, np.ndarray[Any, Any]]


def arrays(modules: Mapping[str, nn.Module], *, about: Mapping[str, Any]) -> Arrays:
    """Parameters and buffers of each module as NAME.parameter, and what they are about, of JSON's types."""
    told = {ABOUT: np.array(json.dumps(about))}
    return told | {
        f"{name}.{key}": value.detach().cpu().numpy().copy()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def load(path: Path, modules: Mapping[str, nn.Module], *, about: Mapping[str, Any]) -> None:
    """Put what a tagger's folder, or its weights.npz, holds into the modules.

    InputError for a file that is none, and where it is about something else, or modules differ in names or
    shapes: it names the first that does; then nothing is changed.
    """
    file = path / FILE if path.is_dir() else path
    found = _read(file)
    told = json.loads(str(found.pop(ABOUT, "{}")))
    for key, own in about.items():
        if told.get(key) != own:
            raise InputError(
                f"start_from: {file} has seen its jets with {key} {told.get(key)!r}, here it is {own!r}; "
                "give both the same frame and condition"
            )
    wanted = {f"{name}.{key}": v for name, m in modules.items() for key, v in m.state_dict().items()}
    for key in sorted(wanted.keys() ^ found.keys()):
        side = "has no" if key in wanted else "has a"
        raise InputError(
            f"start_from: {file} {side} {key!r}, unlike the network here; give both the same network, "
            "latents, frame and condition"
        )
    for key, value in wanted.items():
        if found[key].shape != tuple(value.shape):
            raise InputError(
                f"start_from: {file}: {key} is of shape {found[key].shape}, here it is {tuple(value.shape)}; "
                "give both the same network, latents, length and condition"
            )
    for name, module in modules.items():
        own = {key.removeprefix(f"{name}."): v for key, v in found.items() if key.startswith(f"{name}.")}
        module.load_state_dict({key: _tensor(v) for key, v in own.items()})


def _tensor(value: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))


def _read(file: Path) -> Arrays:
    if not file.is_file():
        raise InputError(
            f"start_from: {file}: not there; name the folder of a trained JetVAE, which holds {FILE}"
        )
    try:
        with np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as err:
        raise InputError(
            f"start_from: {file}: not readable as arrays ({err}); train that tagger anew"
        ) from None
