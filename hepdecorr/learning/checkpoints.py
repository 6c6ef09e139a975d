"""Checkpoints of a training: tensors and plain values only, written atomically, read without unpickling."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from hepdecorr.errors import InputError

log = logging.getLogger(__name__)

VERSION = 1


class Checkpoints:
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
        torch.save({"version": VERSION, "fingerprint": self.fingerprint, **state}, part)
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
        known = isinstance(state, dict) and state.get("version") == VERSION
        if not known or state["fingerprint"] != self.fingerprint:
            log.warning("%s belongs to another training and is not used", path)
            return None
        return dict(state)

    def _path(self, index: int) -> Path:
        assert self.folder is not None
        return self.folder / f"stage_{index}.pt"


def random_state() -> dict[str, Any]:
    """States of torch's own generators, which reparametrisations and shuffled latents draw from."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: dict[str, Any]) -> None:
    """Back to what `random_state` gave."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
