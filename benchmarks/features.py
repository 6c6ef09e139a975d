"""Candidates per CPU-second of the full feature set, beside a straightforward numpy implementation.

    python benchmarks/features.py [--file FILE.root] [--candidates 50000]

The numpy one pads every event to the largest, as one writes it without compiled loops; its thrust iterates
from the five hardest particles, so it may miss the maximum, and the table says how often it does.  Both give
the same columns; the largest difference is printed.  Rates are per CPU-second of one thread: compare ratios.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from coffea.nanoevents import NanoEventsFactory
from numpy.typing import NDArray

from hepdecorr.columnar import features
from hepdecorr.columnar.schemas import BsgammaSchema

Floats = NDArray[np.float64]

COLLECTIONS = ("Track", "Photon", "Bcand", "Beam")
K_MASS, PI_MASS = 0.493677, 0.13957039


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, help="ROOT file (default: the built-in continuum sample)")
    parser.add_argument(
        "--candidates", type=int, default=50_000, help="how many, repeating the file if short"
    )
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many is printed")
    options = parser.parse_args()
    path = options.file or Path(
        str(resources.files("hepdecorr.samples").joinpath("data", "bsgamma_continuum.root"))
    )
    events = in_memory(path, options.candidates)
    # compiled code is loaded or made here
    features.compute("bsgamma", events[:10])
    ours, rate = timed(lambda: features.compute("bsgamma", events), len(events), repeat=options.repeat)
    plain, plain_rate = timed(lambda: padded(events), len(events), repeat=1)
    _, read_rate = timed(
        lambda: from_file(path, options.candidates), stored(path, options.candidates), repeat=1
    )
    print(f"{len(events)} candidates of {path.name}, {len(ours)} features")
    print(f"{'':34s}candidates / CPU-s")
    print(f"{'hepdecorr, columns in memory':34s}{rate:14,.0f}")
    print(f"{'hepdecorr, with reading (virtual)':34s}{read_rate:14,.0f}")
    print(f"{'numpy, padded, columns in memory':34s}{plain_rate:14,.0f}")
    print(f"ratio {rate / plain_rate:.1f}")
    compare(ours, plain)


def timed(run: Callable[[], Any], count: int, *, repeat: int) -> tuple[Any, float]:
    """The result and the best rate per CPU-second."""
    best = 0.0
    for _ in range(repeat):
        start = time.process_time()
        result = run()
        best = max(best, count / (time.process_time() - start))
    return result, best


def compare(ours: dict[str, Any], plain: dict[str, Floats]) -> None:
    """Say where the two differ."""
    # Two maxima within rounding of each other have two axes: not compared either.
    missed = plain["thrust_o"] < ours["thrust_o"] - 1e-7
    print(f"the numpy thrust misses the maximum in {missed.mean():.1%} of the events; in the others")
    differences = {name: np.abs(ours[name] - plain[name])[~missed].max() for name in ours}
    worst = max(differences, key=lambda name: differences[name])
    print(f"the largest difference of any feature is {differences[worst]:.1e} ({worst})")


def in_memory(path: Path, count: int) -> Any:
    """Events with every column read, repeated up to `count`."""
    with uproot.open(path) as file:
        flat = file["Events"].arrays(filter_name=[f"{name}_*" for name in COLLECTIONS], entry_stop=count)
    flat = ak.concatenate([flat] * -(-count // len(flat)))[:count]
    made = {
        name: ak.zip({f.split("_", 1)[1]: flat[f] for f in flat.fields if f.startswith(f"{name}_")})
        for name in COLLECTIONS
    }
    return ak.to_packed(ak.zip(made, depth_limit=1))


def from_file(path: Path, count: int) -> dict[str, Any]:
    """The same from the file through coffea's virtual arrays."""
    factory = NanoEventsFactory.from_root(
        {str(path): "Events"}, mode="virtual", schemaclass=BsgammaSchema, entry_stop=stored(path, count)
    )
    return features.compute("bsgamma", factory.events())


def stored(path: Path, count: int) -> int:
    """How many entries of the file are read."""
    with uproot.open(path) as file:
        return min(count, int(file["Events"].num_entries))


def padded(events: Any) -> dict[str, Floats]:
    """The full set in numpy, 5,000 events at a time so that the pairs fit in memory."""
    parts = [shapes(events[i : i + 5000]) for i in range(0, len(events), 5000)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def shapes(events: Any) -> dict[str, Floats]:
    """One part of it: four-vectors of shape (events, particles, 4), zeros where there is none."""
    ours, others, charge, n_charged = four_vectors(events)
    out = stored_ones(events) | kinematics(ours) | counting(events, charge[1])
    everything = np.concatenate([ours, others], axis=1)
    axis = {}
    for name, vectors in (("b", ours), ("o", others)):
        out[f"thrust_{name}"], axis[name] = thrust(vectors[..., :3])
    out["cos_tbto"] = np.abs((axis["b"] * axis["o"]).sum(axis=1))
    out["cos_tbz"], out["cos_toz"] = np.abs(axis["b"][:, 2]), np.abs(axis["o"][:, 2])
    for name, vectors in (("", everything), ("_roe", others)):
        out |= {f"r{order}{name}": value for order, value in fox_wolfram(vectors[..., :3]).items()}
        out[f"sphericity{name}"], out[f"aplanarity{name}"] = tensor(vectors[..., :3])
    out |= cones(others[..., :3], axis["b"])
    sqrt_s = ak.to_numpy(events["Beam", "sqrtS"]).astype(np.float64)
    out |= sums(everything, others, sqrt_s)
    largest = 2 * (sqrt_s - ours[..., 3].sum(axis=1))
    return out | ksfw(ours, others, charge, n_charged, everything, largest)


def four_vectors(events: Any) -> tuple[Floats, Floats, tuple[Floats, Floats], int]:
    """Candidate (n, 3, 4), rest (n, m, 4), their charges, and the width of the rest's charged part."""
    k, pi, g = (ak.to_numpy(events["Bcand", f]) for f in ("kIdx", "piIdx", "gIdx"))
    row = np.arange(len(k))
    tracks, photons = column(events, "Track"), column(events, "Photon")
    tracks["mass"][row, k], tracks["mass"][row, pi] = K_MASS, PI_MASS
    photons["mass"][:] = 0.0
    boost = np.stack([ak.to_numpy(events["Beam", f"boost{x}"]) for x in "XYZ"], axis=1).astype(np.float64)
    t, p = boosted(tracks, boost), boosted(photons, boost)
    q = pad(events["Track", "charge"])
    ours = np.stack([t[row, k], t[row, pi], p[row, g]], axis=1)
    our_charge = np.stack([q[row, k], q[row, pi], np.zeros(len(q))], axis=1)
    t[row, k] = t[row, pi] = p[row, g] = 0.0
    q[row, k] = q[row, pi] = 0.0
    others = np.concatenate([t, p], axis=1)
    return ours, others, (our_charge, np.pad(q, ((0, 0), (0, p.shape[1])))), t.shape[1]


def pad(array: Any) -> Floats:
    """(events, most) with zeros."""
    most = int(ak.max(ak.num(array), initial=0))
    filled = ak.fill_none(ak.pad_none(array, most, clip=True), 0)
    return np.asarray(ak.to_numpy(filled, allow_missing=False).astype(np.float64))


def column(events: Any, name: str) -> dict[str, Floats]:
    """The padded coordinates of a collection."""
    return {field: pad(events[name, field]) for field in ("pt", "eta", "phi", "mass")}


def boosted(c: dict[str, Floats], beta: Floats) -> Floats:
    """Lab (pt, eta, phi, mass) to CM (x, y, z, e)."""
    p = np.stack(
        [c["pt"] * np.cos(c["phi"]), c["pt"] * np.sin(c["phi"]), c["pt"] * np.sinh(c["eta"])], axis=-1
    )
    e = np.sqrt((p**2).sum(axis=-1) + c["mass"] ** 2)
    gamma = 1 / np.sqrt(1 - (beta**2).sum(axis=1))[:, None]
    along = np.einsum("nij,nj->ni", p, beta)
    moved = p + (gamma**2 / (gamma + 1) * along - gamma * e)[..., None] * beta[:, None]
    return np.concatenate([moved, (gamma * (e - along))[..., None]], axis=-1)


def stored_ones(events: Any) -> dict[str, Floats]:
    """Branches as they are."""
    names = {"delta_e": "deltaE", "p_star_b": "pStar", "e_star_gamma": "EgStar", "m_kpi": "mKst"}
    names |= {"m_pi0": "mPi0", "m_eta": "mEta"}
    return {name: ak.to_numpy(events["Bcand", field]).astype(np.float64) for name, field in names.items()}


def kinematics(ours: Floats) -> dict[str, Floats]:
    """Angles of the candidate."""
    k, pi, g = ours[:, 0], ours[:, 1], ours[:, 2]
    kst, b = k + pi, k + pi + g
    size = np.linalg.norm(kst[:, :3], axis=1)
    cosine = (kst * g)[:, :3].sum(axis=1) / size / np.linalg.norm(g[:, :3], axis=1)
    metric = np.array([-1, -1, -1, 1])
    mass = np.sqrt((kst**2 * metric).sum(axis=1))
    e_k, e_g = (kst * k * metric).sum(axis=1) / mass, (kst * g * metric).sum(axis=1) / mass
    hel = ((k * g * metric).sum(axis=1) - e_k * e_g) / np.sqrt(e_k**2 - K_MASS**2) / e_g
    flight = np.abs(b[:, 2]) / np.linalg.norm(b[:, :3], axis=1)
    return {"p_star_kst": size, "cos_kst_gamma": cosine, "cos_hel": hel, "cos_theta_b": flight}


def counting(events: Any, charge: Floats) -> dict[str, Floats]:
    """Multiplicities and identification."""
    code = np.abs(pad(events["Track", "pdgId"]))
    row = np.arange(len(code))
    k, pi = (ak.to_numpy(events["Bcand", f]) for f in ("kIdx", "piIdx"))
    out = {"kaon_id": code[row, k] == 321, "pion_id": code[row, pi] == 211}
    code[row, k] = code[row, pi] = 0
    return {name: values.astype(np.float64) for name, values in out.items()} | {
        "n_tracks_roe": ak.to_numpy(ak.num(events["Track"])) - 2.0,
        "n_photons_roe": ak.to_numpy(ak.num(events["Photon"])) - 1.0,
        "n_kaons_roe": (code == 321).sum(axis=1).astype(np.float64),
        "n_leptons_roe": np.isin(code, (11, 13)).sum(axis=1).astype(np.float64),
        "charge_roe": charge.sum(axis=1),
    }


def thrust(p: Floats) -> tuple[Floats, Floats]:
    """Iterated from the five hardest particles."""
    size = np.linalg.norm(p, axis=2)
    order = np.argsort(-size, axis=1)
    best, axis = np.zeros(len(p)), np.zeros((len(p), 3))
    total = np.maximum(size.sum(axis=1), 1e-300)
    for seed in range(min(5, p.shape[1])):
        a = p[np.arange(len(p)), order[:, seed]]
        for _ in range(12):
            a = np.einsum("ni,nij->nj", np.sign(np.einsum("nij,nj->ni", p, a)), p)
        length = np.linalg.norm(a, axis=1)
        better = length / total > best
        best[better] = (length / total)[better]
        axis[better] = (a / np.maximum(length, 1e-300)[:, None])[better]
    return best, axis


def cosines(p: Floats, q: Floats) -> tuple[Floats, Floats, Floats]:
    """Sizes of both and the cosines of all pairs."""
    a, b = np.linalg.norm(p, axis=2), np.linalg.norm(q, axis=2)
    scale = np.maximum(a[:, :, None] * b[:, None, :], 1e-300)
    return a, b, np.einsum("nik,njk->nij", p, q) / scale


def legendre(c: Floats) -> dict[int, Floats]:
    """P_0 to P_4."""
    p4 = (35 * c**4 - 30 * c**2 + 3) / 8
    return {0: np.ones_like(c), 1: c, 2: (3 * c**2 - 1) / 2, 3: (5 * c**3 - 3 * c) / 2, 4: p4}


def fox_wolfram(p: Floats) -> dict[int, Floats]:
    """R_1 to R_4."""
    a, _, c = cosines(p, p)
    weight = a[:, :, None] * a[:, None, :]
    norm = np.maximum(weight.sum(axis=(1, 2)), 1e-300)
    return {order: (weight * q).sum(axis=(1, 2)) / norm for order, q in legendre(c).items() if order}


def tensor(p: Floats) -> tuple[Floats, Floats]:
    """Sphericity and aplanarity."""
    matrix = np.einsum("nia,nib->nab", p, p)
    trace = np.maximum(np.trace(matrix, axis1=1, axis2=2), 1e-300)
    values = np.linalg.eigvalsh(matrix / trace[:, None, None])
    return 1.5 * (values[:, 0] + values[:, 1]), 1.5 * values[:, 0]


def cones(p: Floats, axis: Floats) -> dict[str, Floats]:
    """CLEO's nine."""
    size = np.linalg.norm(p, axis=2)
    cosine = np.abs(np.einsum("nij,nj->ni", p, axis)) / np.maximum(size, 1e-300)
    number = np.minimum((np.degrees(np.arccos(np.clip(cosine, 0, 1))) / 10).astype(int), 8)
    return {f"cleo_{i + 1}": np.where(number == i, size, 0).sum(axis=1) for i in range(9)}


def sums(everything: Floats, others: Floats, sqrt_s: Floats) -> dict[str, Floats]:
    """Energies and momenta of the rest and of what is missing."""
    rest, seen = others.sum(axis=1), everything.sum(axis=1)
    p_roe, p_miss = np.linalg.norm(rest[:, :3], axis=1), np.linalg.norm(seen[:, :3], axis=1)
    e_miss = sqrt_s - seen[:, 3]
    return {
        "e_roe": rest[:, 3],
        "p_roe": p_roe,
        "m_roe": np.sqrt(np.maximum(rest[:, 3] ** 2 - p_roe**2, 0)),
        "e_miss": e_miss,
        "p_miss": p_miss,
        "cos_miss": np.abs(seen[:, 2]) / p_miss,
        "ksfw_mm2": e_miss * np.abs(e_miss) - p_miss**2,
        "ksfw_et": np.hypot(everything[..., 0], everything[..., 1]).sum(axis=1),
    }


def ksfw(
    ours: Floats,
    others: Floats,
    charge: tuple[Floats, Floats],
    n_charged: int,
    everything: Floats,
    largest: Floats,
) -> dict[str, Floats]:
    """H^so and R^oo."""
    missing = -everything[..., :3].sum(axis=1)[:, None]
    targets = np.concatenate([others[..., :3], missing], axis=1)
    target_charge = np.pad(charge[1], ((0, 0), (0, 1)))
    _, size, c = cosines(ours[..., :3], targets)
    a, _, cc = cosines(targets, targets)
    pairs = np.triu(np.ones(cc.shape[1:]), 1) * a[:, :, None] * a[:, None, :]
    out = {}
    so, oo = legendre(c), legendre(cc)
    for order in range(5):
        sign = charge[0][:, :, None] * target_charge[:, None, :] if order % 2 else 1.0
        terms = (sign * size[:, None, :] * so[order]).sum(axis=1) / largest[:, None]
        out[f"ksfw_hso_c{order}"] = terms[:, :n_charged].sum(axis=1)
        if order % 2 == 0:
            out[f"ksfw_hso_n{order}"] = terms[:, n_charged:-1].sum(axis=1)
            out[f"ksfw_hso_m{order}"] = terms[:, -1]
        sign = target_charge[:, :, None] * target_charge[:, None, :] if order % 2 else 1.0
        out[f"ksfw_hoo_{order}"] = (sign * pairs * oo[order]).sum(axis=(1, 2)) / largest**2
    return out


if __name__ == "__main__":
    main()
