"""Jets that were sorted after they were read are refused: their links are those of other jets."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
import pytest

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import constituents, objects
from hepdecorr.columnar.features.per_constituent import prepare
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError

SPEC = {"collection": "FatJet", "puppi": "auto"}
REAL = Path(__file__).parents[4] / "shared" / "data" / "nano_tt_v15.root"
REFUSED = (
    r"collection 'FatJet': the hardest constituent of a jet is \d\.\d\d from its axis in event \d+ of the "
    r"chunk \(run 1, .* event \d+\), more than twice the radius 0\.8\.  Were the jets sorted .*"
    r"'FatJetPFCands?' count in the file's order: select among rows or scores instead"
)
layouts = pytest.mark.parametrize("layout", ["pfnano", "v15"])
NAMES = ["log_pt", "log_pt_rel", "deta", "dphi", "charge"]


@pytest.fixture(scope="module")
def toy() -> OnnxTagger:
    """A tagger of weighted candidates, as both layouts have them."""
    taggers: ModuleType = load_file(Path(__file__).with_name("making_taggers.py"))
    conventions = {"collection": "FatJet", "candidates": "weighted"}
    return OnnxTagger(taggers.model(of=taggers.card(conventions=conventions)))


@pytest.fixture
def events(files: dict[str, Path], opened: Any, layout: str) -> Any:
    where = {"dataset": "tt", "filename": "nano.root", "entrystart": 0, "entrystop": 40}
    return opened(files[layout], metadata=where)


def corrected(events: Any) -> Any:
    """The jets with another pt, by factors that swap some of them."""
    jets = events["FatJet"]
    return ak.with_field(jets, jets["pt"] * (1 + 0.5 * np.sin(17 * jets["phi"])), "pt")


def hardest_first(jets: Any) -> Any:
    order = ak.argsort(jets["pt"], ascending=False)
    assert ak.any(order != ak.local_index(order))
    return jets[order]


def written_back(events: Any, jets: Any) -> Any:
    return ak.with_field(events, jets, "FatJet")


def at(jets: ModuleType, *axes: tuple[float, float], candidates: Any = None) -> Any:
    """One event of jets with these (eta, phi), each with one candidate at its axis or at `candidates`."""
    places = candidates or axes
    listed = [
        {"pt": [50.0], "eta": [place[0]], "phi": [place[1]], "jet": {"eta": eta, "phi": phi}}
        for (eta, phi), place in zip(axes, places, strict=True)
    ]
    return jets.by_hand([listed])


def same(found: Any, expected: Any) -> None:
    for name in ("start", "pt", "eta", "phi", "mass", "charge", "pdg"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


# ---- refused


@layouts
@pytest.mark.parametrize("how", ["packed", "zipped", "field set"])
def test_sorted_jets_are_refused(toy: OnnxTagger, events: Any, how: str) -> None:
    ordered = hardest_first(corrected(events))
    if how == "packed":
        ordered = ak.to_packed(ordered)
    elif how == "zipped":
        ordered = ak.zip({k: ak.to_packed(ordered[k]) for k in ("pt", "eta", "phi", "mass")})
    else:
        ordered = ak.with_field(ordered, ordered["mass"] * 1.0, "mass")
    changed = written_back(events, ordered)
    rows = objects.rows(changed, SPEC)
    with pytest.raises(InputError, match=REFUSED):
        constituents.of(rows)
    with pytest.raises(InputError, match=REFUSED):
        prepare(rows, ["log_pt"], length=3)
    for given in (changed, rows):
        with pytest.raises(
            InputError, match=rf"^nano\.root \(dataset 'tt'\), events 0 to 40: tagger toy: {REFUSED}"
        ):
            toy(given)


def test_only_the_rows_that_are_asked_for_are_looked_at(jets: ModuleType) -> None:
    events = at(jets, (0.0, 0.0), (0.0, 0.0), candidates=[(0.1, 0.0), (2.5, 0.0)])
    rows = objects.rows(events, SPEC)
    assert constituents.of(rows[:1]).eta.tolist() == [0.1]
    with pytest.raises(InputError, match=r"2\.50 from its axis in event 0 of the chunk \(event 0\)"):
        constituents.of(rows[1:])


@pytest.mark.parametrize(
    ("collection", "radius", "limit"),
    [("FatJet", None, 1.6), ("FatJet", 1.0, 2.0), ("Jet", None, 0.8), ("LargeJet", None, 2.0)],
)
def test_the_limit_is_twice_the_radius(
    jets: ModuleType, collection: str, radius: float | None, limit: float
) -> None:
    spec = {"collection": collection} | ({} if radius is None else {"radius": radius})
    for away, passes in ((limit - 0.01, True), (-limit - 0.01, False)):
        for place in ((away, 0.0), (0.0, away)):
            events = at(jets, (0.0, 0.0), candidates=[place])
            named = {k.replace("FatJet", collection): events[k] for k in events.fields}
            rows = objects.rows(ak.zip(named, depth_limit=1), spec)
            if passes:
                assert constituents.of(rows).pt.tolist() == [50.0]
                continue
            with pytest.raises(InputError, match=rf"is {abs(away):.2f} .* twice the radius {limit / 2:g}\."):
                constituents.of(rows)


# ---- what passes


@layouts
def test_jets_as_they_were_read_pass_packed_or_corrected(toy: OnnxTagger, events: Any) -> None:
    expected = constituents.of(objects.rows(events, SPEC))
    scores = toy(events)
    for jets in (ak.to_packed(events["FatJet"]), corrected(events), ak.to_packed(corrected(events))):
        changed = written_back(events, jets)
        same(constituents.of(objects.rows(changed, SPEC)), expected)
        # the toy sees nothing of the jet's pt
        assert ak.all(toy(changed) == scores)


@layouts
def test_what_the_message_advises_keeps_each_jets_constituents(toy: OnnxTagger, events: Any) -> None:
    order = ak.argsort(corrected(events)["pt"], ascending=False)
    rows = objects.rows(events, SPEC)
    start = np.concatenate([[0], np.cumsum(ak.num(order))])[:-1]
    sorted_rows = rows[ak.to_numpy(ak.flatten(order + start))]
    np.testing.assert_array_equal(toy(sorted_rows), ak.flatten(toy(events)[order]))


def test_azimuths_on_both_sides_of_pi_are_near(jets: ModuleType) -> None:
    axes = [(0.3, 3.1), (0.3, -3.1), (0.3, 3.1), (0.3, -3.1)]
    for turn in (0.0, 2 * np.pi):
        candidates = [(0.3, -3.1 + turn), (0.3, 3.1 - turn), (0.3, -np.pi), (0.3, np.pi)]
        found = constituents.of(objects.rows(at(jets, *axes, candidates=candidates), SPEC))
        assert found.phi.tolist() == [phi for _, phi in candidates]
    with pytest.raises(InputError, match=r"is 3\.04 from its axis"):
        constituents.of(objects.rows(at(jets, (0.3, 3.1), candidates=[(0.3, 0.06)]), SPEC))


def test_only_the_hardest_constituent_has_to_be_near(jets: ModuleType) -> None:
    one = {"pt": [1.0, 9.0], "eta": [2.5, 0.0], "phi": [0.0, 0.0]}
    assert constituents.of(objects.rows(jets.by_hand([[one]]), SPEC)).eta.tolist() == [0.0, 2.5]


def test_jets_without_constituents_pass(jets: ModuleType) -> None:
    empty = {"pt": [], "eta": [], "phi": [], "jet": {"eta": 4.5, "phi": 3.0}}
    nothing = {"pt": [0.0], "eta": [0.0], "phi": [0.0], "jet": {"eta": 4.5}}
    one = {"pt": [9.0], "eta": [-2.0], "phi": [1.0], "jet": {"eta": -2.1, "phi": 1.1}}
    rows = objects.rows(jets.by_hand([[empty, one], [], [nothing, empty]]), SPEC)
    assert np.diff(constituents.of(rows).start).tolist() == [0, 1, 0, 0]
    assert constituents.notes(rows)["jets without constituents"] == 3
    assert len(constituents.of(objects.rows(jets.by_hand([[empty]]), SPEC)).pt) == 0
    assert len(constituents.of(rows[:0]).pt) == 0


@pytest.mark.skipif(
    not REAL.is_file(), reason="CMS's file is not part of the repository; the made v15 file is"
)
def test_a_file_of_cms(opened: Any) -> None:
    events = opened(REAL)
    expected = constituents.of(objects.rows(events, SPEC))
    assert len(expected.start) - 1 == 64
    same(constituents.of(objects.rows(written_back(events, corrected(events)), SPEC)), expected)
    turned = written_back(events, ak.to_packed(events["FatJet"][:, ::-1]))
    with pytest.raises(InputError, match="Were the jets sorted"):
        constituents.of(objects.rows(turned, SPEC))
