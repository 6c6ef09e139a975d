"""Jets that an autoencoder makes: of true ones, and of nothing but draws from its prior."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr import emd
from hepdecorr.card import GENERATOR_KEY, GeneratorCard
from hepdecorr.columnar import images, laboratory, sessions
from hepdecorr.columnar.features.jet_clustering import njettiness_of
from hepdecorr.columnar.features.jet_momenta import Momenta, divided
from hepdecorr.columnar.scoring import table_rows
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.table import Selection, Table

FILE = "generator.onnx"
AT_ONCE = 4096  # jets that are made together
_SOFTEST = 1e-3  # quantile of the pT of true constituents below which none counts

Floats = NDArray[np.float64]


class Generator:
    """The decoder beside a tagger: `generator(latent, condition)` gives momenta in GeV in the frame."""

    def __init__(self, tagger: Path) -> None:
        path = Path(tagger) / FILE
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; jets are made by a tagger that decodes, a JetVAE: train it with this "
                "version"
            )
        content, source = sessions.read(path)
        session = sessions.session(hashlib.sha256(content).hexdigest(), content, source)
        self.card = GeneratorCard.from_json(
            session.get_modelmeta().custom_metadata_map.get(GENERATOR_KEY, ""), source=source
        )
        graph = Path(tagger) / sessions.MODEL
        if not graph.is_file() or hashlib.sha256(graph.read_bytes()).hexdigest() != self.card.sha256:
            raise InputError(f"{path}: not of the {sessions.MODEL} beside it; train the tagger again")
        self._session = session

    def __call__(self, latent: NDArray[Any], condition: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """Momenta (n, L, 4) of latents (n, d); condition (n, k): values of card.condition, if any."""
        given = {"latent": np.asarray(latent, np.float32)}
        if self.card.condition:
            given["condition"] = np.asarray(condition, np.float32)
        parts = [
            self._session.run(["momenta"], {k: v[i : i + AT_ONCE] for k, v in given.items()})[0]
            for i in range(0, len(latent), AT_ONCE)
        ]
        return np.concatenate([np.zeros((0, self.card.length, 4), np.float32), *parts])


class Imagined(NamedTuple):
    """True jets, the same as reconstructed, and as many generated ones, in the laboratory.

    Each (n, L, 4): E, px, py, pz in GeV, massless, zero where there is no constituent; weight (n,).
    """

    true: Floats
    reconstructed: Floats
    generated: Floats
    weight: Floats
    softest: float  # GeV: constituents with less pT are none


def imagine(
    folder: Path,
    table: Table,
    *,
    select: Selection,
    jets: int,
    seed: int,
    base: Path | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Imagined:
    """So many selected jets of a table, what the tagger in `folder` makes of them, and jets from its prior.

    A generated jet takes its orientation from a true one, and so what the decoder is told; from the rest
    frame also its momentum, because nothing there tells of it (laboratory.launched), else its boost.
    Constituents are taken as massless, and those softer than nearly all true ones (a permille) as none, in
    all three alike.  InputError where fewer than two jets are selected.
    """
    tagger, make = OnnxTagger(folder, base=base), Generator(folder)
    if tagger.card.constituents is None or not set(emd.MOMENTA) <= set(tagger.card.outputs):
        raise InputError(
            f"{folder}: gives no {' and '.join(emd.MOMENTA)}; train it with 'reconstruct: true' in its block"
        )
    random = np.random.default_rng(seed)
    inputs, weight = table_rows(
        tagger, table, select=select, weights=table.names("weight"), most=jets, random=random
    )
    if len(weight) < 2:
        raise InputError(f"{table.folder}: {len(weight)} jets to compare with; at least two are needed")
    latent = random.standard_normal((len(weight), make.card.latents), dtype=np.float32)
    true, found, made = [], [], []
    for first in range(0, len(weight), AT_ONCE):
        part = {name: values[first : first + AT_ONCE] for name, values in inputs.items()}
        outputs = tagger.outputs(part, emd.MOMENTA)
        lab = laboratory.four_momenta(part["constituents"], part["mask"], tagger.card.constituent_names)[
            :, : make.card.length
        ]
        lab = _padded(lab, make.card.length)
        pose = laboratory.poses(lab, outputs["input_momenta"], boost=make.card.boost)
        told = [tagger.feature_names.index(name) for name in make.card.condition]
        condition = part["features"][:, told] if told else None
        generated = laboratory.on_shell(make(latent[first : first + AT_ONCE], condition).astype(np.float64))
        like = laboratory.on_shell(lab)[..., 1:].sum(axis=1)
        true.append(laboratory.on_shell(lab))
        found.append(pose.back(laboratory.on_shell(outputs["output_momenta"].astype(np.float64))))
        made.append(
            laboratory.launched(generated, pose, like) if make.card.boost == "rest" else pose.back(generated)
        )
        advance(min(first + AT_ONCE, len(weight)))
    softest = _softest(np.concatenate(true))
    kinds = [_harder(np.concatenate(part), softest) for part in (true, found, made)]
    return Imagined(kinds[0], kinds[1], kinds[2], weight, softest)


def _padded(p: Floats, length: int) -> Floats:
    return np.pad(p, ((0, 0), (0, length - p.shape[1]), (0, 0)))


def _softest(p: Floats) -> float:
    pt = np.hypot(p[..., 1], p[..., 2])
    filled = pt[pt > 0]
    return float(np.quantile(filled, _SOFTEST)) if len(filled) else 0.0


def _harder(p: Floats, softest: float) -> Floats:
    pt = np.hypot(p[..., 1], p[..., 2])[..., None]
    return np.where(pt >= softest, p, 0.0) if softest > 0 else p


def observables(
    p: Floats, *, radius: float
) -> tuple[dict[str, Floats], dict[str, Floats], NDArray[np.int64]]:
    """Of jets (n, L, 4) in the laboratory: numbers of each, numbers of each constituent, and whose those are.

    Of jets mass, pt, multiplicity and tau21 (n,); of constituents pt, pixel (the place in an average image,
    as of images.places) and share of the pt in their jet (k,).  The jet is the sum of its constituents.
    """
    pt = np.hypot(p[..., 1], p[..., 2])
    there = pt > 0
    total = p.sum(axis=1)
    jet_pt = np.hypot(total[:, 1], total[:, 2])
    owner = np.nonzero(there)[0]
    start = np.concatenate([[0], there.sum(axis=1).cumsum()]).astype(np.int64)
    e, x, y, z = p[there].T
    own = pt[there]
    eta, phi = np.arcsinh(z / own), np.arctan2(y, x)
    taus = njettiness_of(Momenta(start, x, y, z, e, own, eta, phi), radius=radius)
    axis_eta = np.arcsinh(np.divide(total[:, 3], jet_pt, out=np.zeros_like(jet_pt), where=jet_pt > 0))
    axis_phi = np.arctan2(total[:, 2], total[:, 1])
    cloud = images.turned_of(owner, own, eta - axis_eta[owner], phi - axis_phi[owner], size=len(p))
    of_jets = {
        "mass": laboratory.mass_of(total),
        "pt": jet_pt,
        "multiplicity": there.sum(axis=1).astype(np.float64),
        "tau21": divided(taus[:, 1], taus[:, 0]),
    }
    pixel = images.places(cloud, radius=radius, pixels=images.PIXELS).astype(np.float64)
    return of_jets, {"pt": own, "pixel": pixel, "share": cloud.share}, owner
