"""Small ROOT files with jets and their constituents, in the layouts that CMS files come in.

    made = physics(200, process="w", seed=1)
    write(folder / "w.root", made, layout="pfnano")

One `physics` can be written in every layout: "pfnano" (`FatJetPFCands` -> `PFCands`, raw pt and mass with
`puppiWeight` beside them, the same for AK4 `Jet`), "pfnano_raw" (without weights and corrections, as our own
samples are), "v15" (`FatJetPFCand` -> `PFCand`, pt and mass weighted as stored, no charge, a counter for each
field) and "plain" (no constituents).  Puppi weights are powers of two, so that layouts agree exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

LAYOUTS = ("pfnano", "pfnano_raw", "v15", "plain")
EVENT = ("run", "luminosityBlock", "event", "genWeight")

PIDS = np.array([211, -211, 22, 130, 11, -13, 1, 2], "i4")
MASSES = np.array([0.13957, 0.13957, 0.0, 0.49761, 0.000511, 0.10566, 0.0, 0.0], "f4")
CHARGES = np.array([1, -1, 0, 0, -1, 1, 0, 0], "i4")
OFTEN = np.array([0.3, 0.3, 0.2, 0.1, 0.025, 0.025, 0.025, 0.025])
W_MASS = 80.4


def physics(
    n: int,
    *,
    process: str = "qcd",
    seed: int = 1,
    start: int = 0,
    jets: tuple[int, int] = (0, 3),
    constituents: tuple[int, int] = (1, 30),
) -> dict[str, Any]:
    """n events, numbered from `start`: event branches, FatJet, Jet, Cand, and the links FatJetLink, JetLink.

    An event has jets[0] to jets[1] of both kinds, in order of pt, and a jet so many candidates.  Jets of "w"
    have two prongs and a mass near that of the W, those of "qcd" one and a falling mass.  The jets' raw
    momentum is the sum of their constituents: with Puppi weights for FatJet, without for Jet.
    """
    rng = np.random.default_rng(seed)
    number = rng.integers(jets[0], jets[1] + 1, n)
    length = rng.integers(constituents[0], constituents[1] + 1, int(number.sum()))
    flat = _candidates(rng, length, process=process)
    jet = np.repeat(np.arange(len(length)), length)
    event = np.repeat(np.repeat(np.arange(n), number), length)
    # Where a candidate stands in its event's table has nothing to do with its jet.
    place = np.lexsort((rng.random(len(jet)), event))
    made: dict[str, Any] = {
        "run": np.ones(n, "u4"),
        "luminosityBlock": (np.arange(start, start + n) // 100 + 1).astype("u4"),
        "event": np.arange(start, start + n, dtype="u8"),
        "genWeight": (rng.integers(1, 5, n) / 2).astype("f4"),
    }
    each = np.bincount(event, minlength=n)
    made["Cand"] = _lists({k: v[place] for k, v in flat.items()}, each)
    local = np.empty(len(jet), int)
    local[place] = np.arange(len(jet)) - np.repeat(np.cumsum(each) - each, each)
    for name, weight in (("FatJet", flat["puppiWeight"]), ("Jet", np.ones(len(jet), "f4"))):
        sums = _sums(flat, weight, jet, len(length)) | _shapes(rng, len(length), process=process)
        order = np.lexsort((-sums["pt"], np.repeat(np.arange(n), number)))
        made[name] = _lists({k: v[order] for k, v in (sums | {"nConstituents": length}).items()}, number)
        rank = np.empty(len(length), int)
        rank[order] = np.arange(len(length)) - np.repeat(np.cumsum(number) - number, number)
        by_jet = np.lexsort((rank[jet], event))
        links = {"jetIdx": rank[jet], "candIdx": local}
        made[f"{name}Link"] = _lists({k: v[by_jet].astype("i4") for k, v in links.items()}, each)
    return made


def write(
    path: Path,
    made: Mapping[str, Any],
    *,
    layout: str = "pfnano",
    basket: int = 100,
    without: tuple[str, ...] = (),
    changed: Mapping[str, Any] | None = None,
) -> Path:
    """Write `made` in one of LAYOUTS; `changed` replaces branches (FatJet_pt), `without` leaves some out."""
    flat = {k: v for k, v in {**branches(made, layout=layout), **(changed or {})}.items() if k not in without}
    columns = nested(flat) if layout == "v15" else records(flat)
    # Trees without a type of their own come out as RNTuples.
    types = {k: v.dtype if isinstance(v, np.ndarray) else ak.type(v).content for k, v in columns.items()}
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", types)
        for i in range(0, len(flat["event"]), basket):
            tree.extend({k: v[i : i + basket] for k, v in columns.items()})
    return path


def branches(made: Mapping[str, Any], *, layout: str) -> dict[str, Any]:
    """The branches of a layout by their flat names: FatJet_pt, PFCands_pdgId, ..."""
    flat: dict[str, Any] = {k: made[k] for k in EVENT}
    for name in ("FatJet", "Jet"):
        source = made["Jet" if layout == "pfnano_raw" else name]
        scale = 1.0 if layout == "pfnano_raw" else 1 / (1 - source["rawFactor"])
        for field in source.fields:
            changed = field in {"pt", "mass"}
            flat[f"{name}_{field}"] = _single(source[field] * scale) if changed else source[field]
    if layout == "pfnano_raw":
        flat = {k: v for k, v in flat.items() if "rawFactor" not in k}
    if layout == "plain":
        return flat
    table = {"v15": "PFCand"}.get(layout, "PFCands")
    index = {"v15": "pfCandIdx"}.get(layout, "pFCandsIdx")
    for name in ("FatJet",) if layout == "v15" else ("FatJet", "Jet"):
        links = made["JetLink" if layout == "pfnano_raw" else f"{name}Link"]
        flat[f"{name}{table}_jetIdx"] = links["jetIdx"]
        flat[f"{name}{table}_{index}"] = links["candIdx"]
    return flat | {f"{table}_{k}": v for k, v in _stored(made["Cand"], layout).items()}


def in_memory(made: Mapping[str, Any], *, layout: str = "pfnano", **changed: Any) -> Any:
    """The events of a layout as plain awkward records, with no schema; `changed` replaces flat branches."""
    return ak.zip(records({**branches(made, layout=layout), **changed}), depth_limit=1)


def by_hand(listed: list[list[Mapping[str, Any]]]) -> Any:
    """Plain PFNano events of listed jets, each {pt, eta, phi and, if wanted, mass, pdgId} of its candidates.

    A jet may give its own branches as jet={"pt": ..., ...}; else they are 100, 0, 0 and 10.
    """
    axis = {"pt": 100.0, "eta": 0.0, "phi": 0.0, "mass": 10.0}
    jets = [[{**axis, **j.get("jet", {})} for j in event] for event in listed]
    cands, links = [], []
    for event in listed:
        cands.append([])
        links.append([])
        for i, one in enumerate(event):
            for k, pt in enumerate(one["pt"]):
                links[-1].append({"jetIdx": i, "pFCandsIdx": len(cands[-1])})
                more = {
                    "mass": one.get("mass", np.zeros(99))[k],
                    "pdgId": int(one.get("pdgId", [22] * 99)[k]),
                }
                cands[-1].append({"pt": pt, "eta": one["eta"][k], "phi": one["phi"][k]} | more)
    fields = {
        "FatJet": dict.fromkeys(axis, np.float64),
        "PFCands": {
            "pt": np.float64,
            "eta": np.float64,
            "phi": np.float64,
            "mass": np.float64,
            "pdgId": np.int64,
        },
        "FatJetPFCands": {"jetIdx": np.int64, "pFCandsIdx": np.int64},
    }
    tables = {"FatJet": jets, "PFCands": cands, "FatJetPFCands": links}
    out = {"event": np.arange(len(listed), dtype="u8")}
    for name, rows in tables.items():
        flat = [r for event in rows for r in event]
        columns = {f: np.array([r[f] for r in flat], dtype=t) for f, t in fields[name].items()}
        out[name] = _lists(columns, [len(event) for event in rows])
    return ak.zip(out, depth_limit=1)


def records(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Flat branches as one record for each collection, which uproot writes with one counter."""
    lists = {k: v for k, v in flat.items() if not isinstance(v, np.ndarray)}
    out = {k: v for k, v in flat.items() if k not in lists}
    for name in dict.fromkeys(k.split("_")[0] for k in lists):
        out[name] = ak.zip({k.partition("_")[2]: v for k, v in lists.items() if k.startswith(f"{name}_")})
    return out


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Flat branches with the counter of each collection; uproot adds one for each field (nFatJet_pt)."""
    counters = {}
    for name, values in flat.items():
        if not isinstance(values, np.ndarray):
            counters.setdefault(f"n{name.split('_')[0]}", ak.to_numpy(ak.num(values)).astype("i4"))
    return {**counters, **flat}


def _stored(cand: Any, layout: str) -> dict[str, Any]:
    fields = {k: cand[k] for k in cand.fields}
    if layout == "v15":
        weight = fields.pop("puppiWeight")
        del fields["charge"]
        return fields | {k: _single(fields[k] * weight) for k in ("pt", "mass")}
    if layout == "pfnano_raw":
        del fields["puppiWeight"]
    return fields


def _candidates(rng: Any, length: Any, *, process: str) -> dict[str, Any]:
    jets, total = len(length), int(length.sum())
    jet = np.repeat(np.arange(jets), length)
    pt = 450 + rng.exponential(150, jets)
    share = rng.exponential(size=total) ** 2 + 1e-3
    share /= np.bincount(jet, share, jets)[jet]
    spread = np.full(total, 0.03) if process == "w" else 0.02 + rng.exponential(0.08, jets)[jet]
    deta, dphi = rng.normal(size=(2, total)) * spread
    if process == "w":
        z = rng.uniform(0.25, 0.75, jets)
        angle, turn = W_MASS / (pt * np.sqrt(z * (1 - z))), rng.uniform(0, 2 * np.pi, jets)
        # the prongs balance about the jet's axis
        away = np.where(rng.random(total) < z[jet], 1 - z[jet], -z[jet]) * angle[jet]
        deta, dphi = deta + away * np.cos(turn[jet]), dphi + away * np.sin(turn[jet])
    phi = rng.uniform(-np.pi, np.pi, jets)[jet] + dphi
    kind = rng.choice(len(PIDS), total, p=OFTEN)
    weight = rng.choice([1.0, 0.5, 0.25, 0.0], total, p=[0.85, 0.05, 0.05, 0.05])
    # so that no jet is empty
    weight[np.cumsum(length) - length] = 1.0
    return {
        "pt": (share * pt[jet]).astype("f4"),
        "eta": (rng.uniform(-2, 2, jets)[jet] + deta).astype("f4"),
        "phi": ((phi + np.pi) % (2 * np.pi) - np.pi).astype("f4"),
        "mass": MASSES[kind],
        "pdgId": PIDS[kind],
        "charge": CHARGES[kind],
        "puppiWeight": weight.astype("f4"),
        "dz": np.where(CHARGES[kind] == 0, 0, rng.normal(0, 0.02, total)).astype("f4"),
    }


def _sums(flat: Mapping[str, Any], weight: Any, jet: Any, jets: int) -> dict[str, Any]:
    """The jets' raw four-momentum, in float64, and the factor that corrects it."""
    pt, eta, phi, mass = (flat[k].astype(float) for k in ("pt", "eta", "phi", "mass"))
    pt, mass = pt * weight, mass * weight
    x, y, z = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    e = np.sqrt(x**2 + y**2 + z**2 + mass**2)
    x, y, z, e = (np.bincount(jet, v, jets) for v in (x, y, z, e))
    squared = np.maximum(e**2 - x**2 - y**2 - z**2, 0)
    return {
        "pt": np.hypot(x, y),
        "eta": np.arcsinh(z / np.hypot(x, y)).astype("f4"),
        "phi": np.arctan2(y, x).astype("f4"),
        "mass": np.sqrt(squared),
    }


def _shapes(rng: Any, jets: int, *, process: str) -> dict[str, Any]:
    """Branches that nothing here recomputes: made up, with tau21 low and softdrop mass sharp for "w"."""
    tau = np.cumprod(rng.uniform(0.4, 0.9, (4, jets)), axis=0) * 0.3
    tau[1:] *= 0.5 if process == "w" else 1.0
    groomed = rng.normal(W_MASS, 8, jets) if process == "w" else rng.exponential(50, jets)
    taus = {f"tau{k + 1}": tau[k].astype("f4") for k in range(4)}
    return taus | {
        "msoftdrop": np.maximum(groomed, 0).astype("f4"),
        "rawFactor": rng.uniform(-0.05, 0.1, jets).astype("f4"),
        "genFlavour": np.full(jets, 24 if process == "w" else 0, "i4"),
    }


def _lists(fields: Mapping[str, Any], counts: Any) -> Any:
    return ak.unflatten(ak.zip(dict(fields)), np.asarray(counts, dtype=np.int64))


def _single(values: Any) -> Any:
    return ak.values_astype(values, np.float32)
