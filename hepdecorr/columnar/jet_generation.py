"""Jets from the frame in which an autoencoder sees them back to the laboratory.

Momenta are (jets, L, 4): E, px, py, pz, zero where there is no constituent.  How a jet lies in its frame is
read from the jet itself, which is known in both: the boost from the sum of its constituents, and the turn as
the one that takes its boosted constituents to where the tagger's graph has them.

Jets that an autoencoder makes: of true ones, and of nothing but draws from its prior.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdecorr import emd
from hepdecorr.columnar import jet_images, onnx_session
from hepdecorr.columnar.features.jet_clustering import compute_njettiness
from hepdecorr.columnar.features.jet_momenta import ConstituentMomenta, divide_or_zero
from hepdecorr.columnar.table_scoring import sample_table_rows
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.model_card import GENERATOR_KEY, GeneratorCard
from hepdecorr.table import Selection, Table

Floats = NDArray[np.float64]

BOOST_FRAMES = ("rest", "beam", "none")
_MIN_MASS_FRACTION = 1e-4  # mass over energy below which a jet is boosted as of this one, as in the graph
_FRAME_TOLERANCE = 1e-3  # of a jet's energy in the frame: how well the momenta there must be found again
_TINY = 1e-30


class LabTransform(NamedTuple):
    """The frame of each jet, as the laboratory sees it."""

    gamma_beta: Floats  # (jets, 3): gamma times beta
    rotation: Floats  # (jets, 3, 3): what takes vectors of the boosted laboratory into the frame

    def to_lab(self, p: Floats) -> Floats:
        """Momenta of the frame in the laboratory."""
        return boost_momenta(
            np.concatenate([p[..., :1], p[..., 1:] @ self.rotation], axis=-1), -self.gamma_beta
        )


def compute_four_momenta(
    constituents: NDArray[np.float32], mask: NDArray[np.float32], feature_names: Sequence[str]
) -> Floats:
    """Momenta of the laboratory from the raw features of constituents (jets, L, c) and their mask (jets, L).

    names: of the features, among them pt or log_pt, eta and phi or deta and dphi, and mass if there is one.
    From deta and dphi the jet's axis lies at eta = phi = 0.
    """
    column = {name: constituents[..., k].astype(np.float64) for k, name in enumerate(feature_names)}
    pt = column["pt"] if "pt" in column else np.exp(column["log_pt"])
    eta, phi = (
        column[n] if {"eta", "phi"} <= set(feature_names) else column[f"d{n}"] for n in ("eta", "phi")
    )
    pt = np.where(mask > 0, pt, 0.0)
    mass = np.where(pt > 0, column.get("mass", np.zeros_like(pt)), 0.0)
    pz = pt * np.sinh(eta)
    return np.stack([np.sqrt(pt**2 + pz**2 + mass**2), pt * np.cos(phi), pt * np.sin(phi), pz], axis=-1)


def boost_momenta(p: Floats, gamma_beta: Floats) -> Floats:
    """Momenta in frames that move by gamma beta = velocity (jets, 3)."""
    u = gamma_beta[:, None]
    gamma = np.sqrt(1 + np.square(u).sum(axis=-1, keepdims=True))
    along = (u * p[..., 1:]).sum(axis=-1, keepdims=True)
    q = p[..., 1:] + u * (along / (gamma + 1) - p[..., :1])
    return np.concatenate([gamma * p[..., :1] - along, q], axis=-1)


def fit_lab_transforms(p: Floats, frame_momenta: NDArray[np.float32], *, boost: str) -> LabTransform:
    """From jets in the laboratory and the same in their frames; boost as of JetFrame.

    The turn is the rotation that is nearest to taking the one to the other (Kabsch, Acta Cryst. A32 (1976)
    922); InputError where it does not, so that a wrong boost cannot pass.
    """
    velocity = _compute_gamma_beta(p.sum(axis=1), boost)
    rest = boost_momenta(p, velocity)[..., 1:]
    u, _, v = np.linalg.svd(np.einsum("nli,nlj->nij", frame_momenta[..., 1:].astype(np.float64), rest))
    handed = np.linalg.det(u @ v)
    turn = (u * np.stack([np.ones_like(handed), np.ones_like(handed), handed], axis=-1)[:, None]) @ v
    off = np.abs(rest @ turn.transpose(0, 2, 1) - frame_momenta[..., 1:]).max(axis=(1, 2), initial=0.0)
    scale = frame_momenta[..., 0].sum(axis=1) + _MIN_MASS_FRACTION * p[..., 0].sum(axis=1) + _TINY
    if len(p) and (off > _FRAME_TOLERANCE * scale).any():
        raise InputError(
            f"{int((off > _FRAME_TOLERANCE * scale).sum())} of {len(p)} jets are not in the frame {boost!r} "
            "what they "
            "are in the laboratory; was the tagger trained on these features, by this version?"
        )
    return LabTransform(velocity, turn)


def boost_to_lab_momentum(p: Floats, transform: LabTransform, lab_momentum: Floats) -> Floats:
    """Jets at rest, p (jets, L, 4), in the laboratory, where each has the momentum like (jets, 3).

    At rest nothing is known of how fast a jet flies, and the velocity of a jet of another mass would make one
    of another pT.  So each takes the turn of a pose, and of `like` the momentum, with a mass of its own.
    """
    turned = np.concatenate([p[..., :1], p[..., 1:] @ transform.rotation], axis=-1)
    # What is made is at rest only nearly.
    still = boost_momenta(turned, _compute_gamma_beta(turned.sum(axis=1), "rest"))
    size = np.linalg.norm(lab_momentum, axis=1)
    mass = np.maximum(invariant_mass(still.sum(axis=1)), _MIN_MASS_FRACTION * size)
    return boost_momenta(still, -lab_momentum / np.maximum(mass, _TINY)[:, None])


def make_massless(p: Floats) -> Floats:
    """The same momenta with the energies of massless particles: a decoder knows of no mass shell."""
    return np.concatenate([np.linalg.norm(p[..., 1:], axis=-1, keepdims=True), p[..., 1:]], axis=-1)


def invariant_mass(p: Floats) -> Floats:
    """Invariant mass of four-momenta (..., 4), 0 where rounding makes its square negative."""
    square = p[..., 0] ** 2 - np.square(p[..., 1:]).sum(axis=-1)
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))


def _compute_gamma_beta(jet_p4: Floats, boost: str) -> Floats:
    if boost not in BOOST_FRAMES:
        raise InputError(f"boost {boost!r}; it is rest, beam or none")
    e, q = jet_p4[:, :1], jet_p4[:, 1:].copy()
    if boost == "none":
        return np.zeros_like(q)
    if boost == "beam":
        q[:, :2] = 0.0
    square = np.square(q).sum(axis=1, keepdims=True)
    least = (_MIN_MASS_FRACTION * e) ** 2
    light = e**2 - square < least
    gamma2 = e**2 / np.maximum(np.where(light, least, e**2 - square), _TINY)
    return np.asarray(q * np.sqrt(np.maximum(gamma2 - 1, 0) / np.maximum(square, _TINY)))


GENERATOR_FILE = "generator.onnx"
BATCH_SIZE = 4096  # jets that are made together
_MIN_PT_QUANTILE = 1e-3  # quantile of the pT of true constituents below which none counts


class OnnxJetGenerator:
    """The decoder beside a tagger: `generator(latent, condition)` gives momenta in GeV in the frame."""

    def __init__(self, tagger_folder: Path) -> None:
        path = Path(tagger_folder) / GENERATOR_FILE
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; jets are made by a tagger that decodes, a JetVAE: train it with this "
                "version"
            )
        content, source = onnx_session.read_model(path)
        session = onnx_session.get_session(hashlib.sha256(content).hexdigest(), content, source)
        self.card = GeneratorCard.from_json(
            session.get_modelmeta().custom_metadata_map.get(GENERATOR_KEY, ""), source=source
        )
        graph = Path(tagger_folder) / onnx_session.TAGGER_FILE
        if not graph.is_file() or hashlib.sha256(graph.read_bytes()).hexdigest() != self.card.sha256:
            raise InputError(
                f"{path}: not of the {onnx_session.TAGGER_FILE} beside it; train the tagger again"
            )
        self._session = session

    def __call__(self, latent: NDArray[Any], condition: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """Momenta (n, L, 4) of latents (n, d); condition (n, k): values of card.condition, if any."""
        given = {"latent": np.asarray(latent, np.float32)}
        if self.card.condition:
            given["condition"] = np.asarray(condition, np.float32)
        parts = [
            self._session.run(["momenta"], {k: v[i : i + BATCH_SIZE] for k, v in given.items()})[0]
            for i in range(0, len(latent), BATCH_SIZE)
        ]
        return np.concatenate([np.zeros((0, self.card.length, 4), np.float32), *parts])


class SampledJets(NamedTuple):
    """True jets, the same as reconstructed, and as many generated ones, in the laboratory.

    Each (n, L, 4): E, px, py, pz in GeV, massless, zero where there is no constituent; weight (n,).
    """

    true: Floats
    reconstructed: Floats
    generated: Floats
    weight: Floats
    min_pt: float  # GeV: constituents with less pT are none


def sample_jets(
    folder: Path,
    table: Table,
    *,
    select: Selection,
    num_jets: int,
    seed: int,
    base: Path | None = None,
    report_progress: Callable[[int], None] = lambda _: None,
) -> SampledJets:
    """So many selected jets of a table, what the tagger in `folder` makes of them, and jets from its prior.

    A generated jet takes its orientation from a true one, and so what the decoder is told; from the rest
    frame also its momentum, because nothing there tells of it (laboratory.launched), else its boost.
    Constituents are taken as massless, and those softer than nearly all true ones (a permille) as none, in
    all three alike.  InputError where fewer than two jets are selected.
    """
    tagger, make = OnnxTagger(folder, base=base), OnnxJetGenerator(folder)
    if tagger.card.constituents is None or not set(emd.MOMENTA_OUTPUTS) <= set(tagger.card.outputs):
        raise InputError(
            f"{folder}: gives no {' and '.join(emd.MOMENTA_OUTPUTS)}; train it with "
            "'reconstruct: true' in its block"
        )
    random = np.random.default_rng(seed)
    inputs, weight = sample_table_rows(
        tagger, table, select=select, weights=table.column_names("weight"), max_rows=num_jets, rng=random
    )
    if len(weight) < 2:
        raise InputError(f"{table.folder}: {len(weight)} jets to compare with; at least two are needed")
    latent = random.standard_normal((len(weight), make.card.latents), dtype=np.float32)
    true, found, made = [], [], []
    for first in range(0, len(weight), BATCH_SIZE):
        part = {name: values[first : first + BATCH_SIZE] for name, values in inputs.items()}
        outputs = tagger.outputs(part, emd.MOMENTA_OUTPUTS)
        lab = compute_four_momenta(part["constituents"], part["mask"], tagger.card.constituent_names)[
            :, : make.card.length
        ]
        lab = _pad_constituents(lab, make.card.length)
        pose = fit_lab_transforms(lab, outputs["input_momenta"], boost=make.card.boost)
        told = [tagger.feature_names.index(name) for name in make.card.condition]
        condition = part["features"][:, told] if told else None
        generated = make_massless(make(latent[first : first + BATCH_SIZE], condition).astype(np.float64))
        like = make_massless(lab)[..., 1:].sum(axis=1)
        true.append(make_massless(lab))
        found.append(pose.to_lab(make_massless(outputs["output_momenta"].astype(np.float64))))
        made.append(
            boost_to_lab_momentum(generated, pose, like)
            if make.card.boost == "rest"
            else pose.to_lab(generated)
        )
        report_progress(min(first + BATCH_SIZE, len(weight)))
    softest = _compute_min_pt(np.concatenate(true))
    kinds = [_remove_soft(np.concatenate(part), softest) for part in (true, found, made)]
    return SampledJets(kinds[0], kinds[1], kinds[2], weight, softest)


def _pad_constituents(p: Floats, length: int) -> Floats:
    return np.pad(p, ((0, 0), (0, length - p.shape[1]), (0, 0)))


def _compute_min_pt(p: Floats) -> float:
    pt = np.hypot(p[..., 1], p[..., 2])
    filled = pt[pt > 0]
    return float(np.quantile(filled, _MIN_PT_QUANTILE)) if len(filled) else 0.0


def _remove_soft(p: Floats, min_pt: float) -> Floats:
    pt = np.hypot(p[..., 1], p[..., 2])[..., None]
    return np.where(pt >= min_pt, p, 0.0) if min_pt > 0 else p


def compute_observables(
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
    taus = compute_njettiness(ConstituentMomenta(start, x, y, z, e, own, eta, phi), radius=radius)
    axis_eta = np.arcsinh(np.divide(total[:, 3], jet_pt, out=np.zeros_like(jet_pt), where=jet_pt > 0))
    axis_phi = np.arctan2(total[:, 2], total[:, 1])
    cloud = jet_images.rotate_to_principal_axis(
        owner, own, eta - axis_eta[owner], phi - axis_phi[owner], num_jets=len(p)
    )
    of_jets = {
        "mass": invariant_mass(total),
        "pt": jet_pt,
        "multiplicity": there.sum(axis=1).astype(np.float64),
        "tau21": divide_or_zero(taus[:, 1], taus[:, 0]),
    }
    pixel = jet_images.compute_pixel_indices(cloud, radius=radius, num_pixels=jet_images.NUM_PIXELS).astype(
        np.float64
    )
    return of_jets, {"pt": own, "pixel": pixel, "share": cloud.pt_fraction}, owner
