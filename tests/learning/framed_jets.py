"""Made jets of background and outliers, in pt, eta, phi and mass of their constituents."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hepdecorr.learning import Data, Events
from hepdecorr.learning.form import Form

NAMES = ("pt", "eta", "phi", "mass")
LENGTH = 8


def columns(rows: int, *, seed: int, share: float = 0.3) -> dict[str, Any]:
    """Background is one prong, an outlier two; a tenth of the first hundred have one constituent or none."""
    draw = np.random.default_rng(seed)
    label = (draw.random(rows) < share).astype(np.float32)
    mass = 50 + 40 * draw.exponential(size=rows)
    count = draw.integers(3, LENGTH + 1, rows)
    count[:100:10] = np.arange(len(count[:100:10])) % 2
    there = np.arange(LENGTH) < count[:, None]
    wide = 0.1 * (mass / 60 * draw.uniform(0.5, 1.5, rows))[:, None]
    side = np.where(np.arange(LENGTH) % 2, 0.7, -0.7) * label[:, None] * wide
    pt = 100 * 0.8 ** np.arange(LENGTH) * draw.uniform(0.9, 1.1, there.shape)
    turn, ring = draw.uniform(0, 2 * np.pi, (rows, 1)), np.arange(LENGTH) * 2.4
    blur = 0.3 * draw.normal(size=(2, *there.shape))
    angles = (side + wide * (np.cos(turn + ring) + blur[0]), wide * (np.sin(turn + ring) + blur[1]))
    seen = np.stack([pt, *angles, np.full(there.shape, 0.14)], 2)
    return {"label": label, "mass": mass, "there": there, "seen": np.where(there[..., None], seen, 0)}


def jets(
    rows: int, *, seed: int, share: float = 0.3, features: tuple[str, ...] = (), **change: Any
) -> Events:
    made = columns(rows, seed=seed, share=share) | change
    mass = torch.as_tensor(made["mass"], dtype=torch.float32)[:, None]
    form = Form(features, NAMES, LENGTH)
    told = mass if features else mass[:, :0]
    x = form.pack(told, torch.as_tensor(made["seen"]).float(), torch.as_tensor(made["there"]))
    names = {"features": features, "constituents": NAMES, "nuisances": ["jet_mass"]}
    return Events(x, torch.as_tensor(made["label"]), mass, w=made.get("w"), alone=True, **names)


def data(*, rows: int = 1500, share: float = 0.3, features: tuple[str, ...] = ()) -> Data:
    about = {"share": share, "features": features}
    return Data(jets(rows, seed=1, **about), jets(rows // 2, seed=2, **about))
