"""Checkpoints of a training: tensors and plain values only, written atomically, read without unpickling.

Trained weights beside a tagger, from which another training can start: arrays, no pickles.
"""

from __future__ import annotations

import json
import logging
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepdecorr.errors import InputError

log = logging.getLogger(__name__)


CHECKPOINT_VERSION = 1


class StageCheckpoints:
    """One file for each stage in `folder`; `fingerprint` says which training they belong to.

    A checkpoint of another training (another config, table or seed) is left aside, so that an old
    result cannot pass for a new one.  Without a folder nothing is kept.
    """

    def __init__(self, folder: Path | None, *, fingerprint: str = "") -> None:
        self.folder, self.fingerprint = folder, fingerprint

    def save(self, index: int, state: dict[str, Any]) -> None:
        """Keep the state of stage `index`; a reader sees the old file or the new one, never half of one."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(index)
        part = path.with_name(path.name + ".part")
        torch.save({"version": CHECKPOINT_VERSION, "fingerprint": self.fingerprint, **state}, part)
        part.replace(path)

    def load(self, index: int) -> dict[str, Any] | None:
        """What was kept of stage `index` of this training, or None.  InputError for a damaged file."""
        if self.folder is None or not self._path(index).is_file():
            return None
        path = self._path(index)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as err:
            reason = str(err).split("\n", maxsplit=1)[0][:120]
            raise InputError(
                f"{path}: not a readable checkpoint ({reason}); delete it to train this stage anew"
            ) from None
        known = isinstance(state, dict) and state.get("version") == CHECKPOINT_VERSION
        if not known or state["fingerprint"] != self.fingerprint:
            log.warning("%s belongs to another training and is not used", path)
            return None
        return dict(state)

    def _path(self, index: int) -> Path:
        assert self.folder is not None
        return self.folder / f"stage_{index}.pt"


def capture_rng_state() -> dict[str, Any]:
    """States of torch's own generators, which reparametrisations and shuffled latents draw from."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_rng_state(state: dict[str, Any]) -> None:
    """Back to what `random_state` gave."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


WEIGHTS_FILE = "weights.npz"
METADATA_ARRAY = "about"  # the array that says in words what no shape tells

WeightArrays = dict[str, np.ndarray[Any, Any]]


def collect_weights(modules: Mapping[str, nn.Module], *, metadata: Mapping[str, Any]) -> WeightArrays:
    """Parameters and buffers of each module as NAME.parameter, and what they are about, of JSON's types."""
    told = {METADATA_ARRAY: np.array(json.dumps(metadata))}
    return told | {
        f"{name}.{key}": value.detach().cpu().numpy().copy()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def load_weights(path: Path, modules: Mapping[str, nn.Module], *, metadata: Mapping[str, Any]) -> None:
    """Put what a tagger's folder, or its weights.npz, holds into the modules.

    InputError for a file that is none, and where it is about something else, or modules differ in names or
    shapes: it names the first that does; then nothing is changed.
    """
    file = path / WEIGHTS_FILE if path.is_dir() else path
    found = _read_weights(file)
    told = json.loads(str(found.pop(METADATA_ARRAY, "{}")))
    for key, own in metadata.items():
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
        module.load_state_dict({key: _to_tensor(v) for key, v in own.items()})


def _to_tensor(value: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))


def _read_weights(file: Path) -> WeightArrays:
    if not file.is_file():
        raise InputError(
            f"start_from: {file}: not there; name the folder of a trained JetVAE, which holds {WEIGHTS_FILE}"
        )
    try:
        with np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as err:
        raise InputError(
            f"start_from: {file}: not readable as arrays ({err}); train that tagger anew"
        ) from None
