"""Jets per CPU-second of preparing constituents, beside the straightforward awkward way.

    python benchmarks/constituents.py [--data FILE.root ...] [--length 40] [--chunk 50000]

The awkward way gathers candidates by their links, sorts, computes each feature as a jagged array, and goes
through pad_none, fill_none and to_numpy, as one writes it without compiled loops.  Both give the same
numbers; how many jets agree is printed.  Files are read in chunks of events, as a processor gets them; "in
memory" takes columns that were read before.  Memory is the peak of what the first chunk allocates, its
columns included.  Without --data, a made file of falling constituents is used.  Rates are per CPU-second of
one thread: compare ratios.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from coffea.nanoevents import NanoEventsFactory, PFNanoAODSchema
from numpy.typing import NDArray

from hepdecorr.columnar import features, objects
from hepdecorr.columnar.features.per_constituent import expand_constituents, prepare

Floats = NDArray[np.float32]

NAMES = expand_constituents(["kinematics", "particle_id"])
SPEC = {"collection": "FatJet"}
LAYOUTS = (("PFCands", "pFCandsIdx"), ("PFCand", "pfCandIdx"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", help="ROOT files (default: a made one)")
    parser.add_argument("--length", type=int, default=40, help="constituents that are kept")
    parser.add_argument("--chunk", type=int, default=50_000, help="events of a chunk")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many is printed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.data or [made(Path(folder) / "made.root")]
        ours(next(chunks(files, 50)), options.length)  # compiled code is loaded or made here
        print(f"{', '.join(f.name for f in files)}: {len(NAMES)} features of {options.length} constituents")
        print(f"{'':36s}jets / CPU-s   peak MB of a chunk   bytes / jet")
        rates = []
        for label, way in (("hepdecorr", ours), ("awkward, pad_none", straightforward)):
            report(f"{label}, with reading", files, way, options)
            rates.append(report(f"{label}, in memory", files, way, options, memory=True))
        print(f"ratio in memory {rates[0] / rates[1]:.1f}")
        compare(next(chunks(files, options.chunk)), options.length)


def chunks(files: list[Path], size: int) -> Any:
    """Virtual events, chunk by chunk."""
    warnings.filterwarnings("ignore", message="Missing cross-reference")
    for path in files:
        with uproot.open(path) as file:
            entries = file["Events"].num_entries
        for start in range(0, entries, size):
            yield NanoEventsFactory.from_root(
                {str(path): "Events"},
                schemaclass=PFNanoAODSchema,
                mode="virtual",
                entry_start=start,
                entry_stop=min(start + size, entries),
            ).events()


def report(
    label: str, files: list[Path], way: Callable[[Any, int], Floats], options: Any, *, memory: bool = False
) -> float:
    """Print and return the rate over all files."""
    best = 0.0
    for _ in range(options.repeat):
        jets, seconds = 0, 0.0
        for events in chunks(files, options.chunk):
            if memory:
                way(events, options.length)  # the columns are read
            start = time.process_time()
            jets += len(way(events, options.length))
            seconds += time.process_time() - start
        best = max(best, jets / seconds)
    tracemalloc.start()
    jets = len(way(next(chunks(files, options.chunk)), options.length))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{label:36s}{best:12,.0f}{peak / 1e6:21,.0f}{peak / jets:14,.0f}")
    return best


def ours(events: Any, length: int) -> Floats:
    """Padded constituents of all jets."""
    rows = objects.rows(events, SPEC)
    with features.shared(rows):
        return prepare(rows, NAMES, length=length).x


def straightforward(events: Any, length: int) -> Floats:
    """The same with awkward arrays alone."""
    jets, own = gathered(events)
    pt, eta, phi, mass = (ak.values_astype(own[f], np.float64) for f in ("pt", "eta", "phi", "mass"))
    mass = ak.where(mass < 0, 0.0, mass)
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    flat = {f: ak.values_astype(ak.flatten(jets[f]), np.float64) for f in ("pt", "eta", "phi", "mass")}
    jet_energy = np.sqrt((flat["pt"] * np.cosh(flat["eta"])) ** 2 + np.maximum(flat["mass"], 0.0) ** 2)
    deta, dphi = eta - flat["eta"], (phi - flat["phi"] + np.pi) % (2 * np.pi) - np.pi
    pdg = abs(own["pdgId"])
    columns = {
        "log_pt": np.log(pt),
        "log_e": np.log(energy),
        "log_pt_rel": np.log(pt / flat["pt"]),
        "log_e_rel": np.log(energy / jet_energy),
        "deta": deta,
        "dphi": dphi,
        "dr": np.hypot(deta, dphi),
        "charge": own["charge"],
        "is_electron": pdg == 11,
        "is_muon": pdg == 13,
        "is_photon": pdg == 22,
        "is_charged_hadron": (pdg > 100) & (own["charge"] != 0),
        "is_neutral_hadron": (pdg > 100) & (own["charge"] == 0),
    }
    padded = [
        ak.to_numpy(ak.fill_none(ak.pad_none(columns[name], length, clip=True), 0)).astype(np.float32)
        for name in NAMES
    ]
    return np.stack(padded, axis=-1)


def gathered(events: Any) -> tuple[Any, Any]:
    """Jets of each event, and candidates of each jet (of all events), hardest first."""
    table, index = next(la for la in LAYOUTS if f"FatJet{la[0]}" in events.fields)
    links, jets = events[f"FatJet{table}"], events["FatJet"]
    # Without coffea's behaviours, which cost time.
    fields = [f for f in ("pt", "eta", "phi", "mass", "pdgId", "charge") if f in events[table].fields]
    own = ak.zip({f: events[table, f][links[index]] for f in fields}, depth_limit=2)
    if "charge" not in fields:
        sign = np.sign(own["pdgId"]) * ak.where(abs(own["pdgId"]) < 20, -1, 1)
        own["charge"] = ak.where((own["pdgId"] == 22) | (own["pdgId"] == 130), 0, sign)
    number = ak.num(jets)
    first = np.cumsum(ak.to_numpy(number)) - ak.to_numpy(number)
    place = ak.to_numpy(ak.flatten(links["jetIdx"] + first))
    flat = ak.flatten(own)[np.argsort(place, kind="stable")]
    own = ak.unflatten(flat, np.bincount(place, minlength=int(ak.sum(number))))
    return jets, own[ak.argsort(own["pt"], axis=-1, ascending=False)]


def compare(events: Any, length: int) -> None:
    """Say how far the two are apart; which of two candidates of equal pt comes first is left open."""
    a, b = ours(events, length), straightforward(events, length)
    same = np.isclose(a, b, atol=1e-4).all(axis=(1, 2))
    by_pt = np.abs(a[:, :, 0] - b[:, :, 0]).max()
    print(f"{same.mean():.2%} of the jets agree to 1e-4, all of them to {by_pt:.1e} in log pt")


def made(path: Path, *, jets: int = 40_000, events: int = 20_000) -> Path:
    """A PFNano file of jets with about 50 constituents of falling pt."""
    rng = np.random.default_rng(1)
    number, length = np.full(events, jets // events), rng.poisson(50, jets) + 1
    jet, total = np.repeat(np.arange(jets), length), int(length.sum())
    each = length.reshape(events, -1).sum(axis=1)
    kind = rng.choice([211, -211, 22, 130], total)
    axis = {"eta": rng.uniform(-2, 2, jets), "phi": rng.uniform(-3, 3, jets)}
    pt = rng.exponential(1, total) ** 3 + 0.5
    fat = {"pt": np.bincount(jet, pt), **axis, "mass": rng.exponential(50, jets)}
    own = {"pt": pt, **{k: v[jet] + rng.normal(0, 0.2, total) for k, v in axis.items()}}
    own |= {"mass": np.where(abs(kind) == 211, 0.1396, 0.0)}
    numbers = {"pdgId": kind, "charge": np.where(abs(kind) == 211, np.sign(kind), 0)}
    links = {"jetIdx": jet % (jets // events), "pFCandsIdx": np.concatenate([np.arange(n) for n in each])}
    tables = {
        "FatJet": single(fat, np.float32, number),
        "PFCands": ak.unflatten(
            ak.zip({**flat_single(own, np.float32), **flat_single(numbers, np.int32)}), each
        ),
        "FatJetPFCands": single(links, np.int32, each),
    }
    ids = {"run": np.ones(events, "u4"), "luminosityBlock": np.ones(events, "u4"), "event": np.arange(events)}
    with uproot.recreate(path) as file:
        types = {k: v.dtype for k, v in ids.items()} | {k: ak.type(v).content for k, v in tables.items()}
        tree = file.mktree("Events", types)
        tree.extend({**ids, **tables})
    return path


def single(columns: dict[str, Any], dtype: Any, counts: Any) -> Any:
    """Flat columns as lists of records."""
    return ak.unflatten(ak.zip(flat_single(columns, dtype)), counts)


def flat_single(columns: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """The columns in the type that files have."""
    return {k: v.astype(dtype) for k, v in columns.items()}


if __name__ == "__main__":
    main()
