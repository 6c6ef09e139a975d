"""The tagger on jets: scores that go with the collection, and a refusal where they would be wrong."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
import pytest

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import constituents, objects, tagger
from hepdecorr.columnar.features import compute, per_constituent
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.table import Column, Table, write_manifest, write_shard

SPEC = {"collection": "FatJet", "puppi": "auto"}


@pytest.fixture(scope="module")
def taggers() -> ModuleType:
    return load_file(Path(__file__).with_name("making_taggers.py"))


@pytest.fixture(scope="module")
def toy(taggers: ModuleType) -> OnnxTagger:
    return OnnxTagger(taggers.model())


@pytest.fixture(scope="module")
def both(taggers: ModuleType) -> OnnxTagger:
    """With features of the jet beside its constituents, and batches that do not fit anything."""
    return OnnxTagger(taggers.model(of=taggers.card(features=taggers.FEATURES)), batch_size=50)


@pytest.fixture
def raw(files: dict[str, Path], opened: Any) -> Any:
    return opened(files["pfnano_raw"])


def by_hand(made: dict[str, Any], model: bytes, of: Any) -> list[list[float]]:
    """Scores of each jet of the file, from what the file was made of and numpy alone."""
    import onnx
    from onnx import numpy_helper

    weights = {i.name: numpy_helper.to_array(i) for i in onnx.load_from_string(model).graph.initializer}
    found = []
    for event in range(len(made["event"])):
        jets, links, cand = made["Jet"][event], made["JetLink"][event], made["Cand"][event]
        scores = []
        for j in range(len(jets)):
            own = [links["candIdx"][k] for k in range(len(links)) if links["jetIdx"][k] == j]
            own = sorted((c for c in own if cand["pt"][c] > 0), key=lambda c: -cand["pt"][c])
            x = [
                (
                    np.log(cand["pt"][c]),
                    cand["eta"][c] - jets["eta"][j],
                    (cand["phi"][c] - jets["phi"][j] + np.pi) % (2 * np.pi) - np.pi,
                    cand["charge"][c],
                )
                for c in own[: of.constituents.length]
            ]
            hidden = np.maximum(np.array(x) @ weights["w1"] + weights["b1"], 0).sum(axis=0)
            given = np.array([jets["pt"][j], jets["tau2"][j]]) * 0.01
            logit = np.concatenate([hidden, given[: len(of.feature_names)]]) @ weights["w"] + weights["b"]
            scores.append(float(1 / (1 + np.exp(-logit[0]))))
        found.append(scores)
    return found


# ---- events and rows


def test_scores_are_those_made_by_hand(
    taggers: ModuleType, both: OnnxTagger, raw: Any, made: dict[str, Any]
) -> None:
    expected = by_hand(made, taggers.model(of=both.card), both.card)
    found = both(raw)
    assert [len(s) for s in expected] == ak.num(found).tolist() == ak.num(raw["FatJet"]).tolist()
    assert 0 in ak.num(found).tolist()
    np.testing.assert_allclose(ak.to_numpy(ak.flatten(found)), np.concatenate(expected), atol=2e-6)


@pytest.mark.parametrize("schema", ["NanoAODSchema", "PFNanoAODSchema", "BaseSchema"])
@pytest.mark.parametrize("mode", ["virtual", "eager"])
def test_events_rows_and_arrays_agree(
    both: OnnxTagger, files: dict[str, Path], opened: Any, raw: Any, schema: str, mode: str
) -> None:
    events = opened(files["pfnano_raw"], schema=schema, mode=mode)
    scores = both(events)
    assert ak.all(scores == both(raw))
    rows = objects.rows(events, SPEC)
    np.testing.assert_array_equal(both(rows), ak.flatten(scores))
    np.testing.assert_allclose(both.scores(both.inputs(rows)), ak.flatten(scores), atol=1e-6)
    keep = np.arange(len(rows)) % 3 == 1
    np.testing.assert_array_equal(both(rows[keep]), np.asarray(both(rows))[keep])
    logits = both.logit(events)
    np.testing.assert_array_equal(ak.flatten(both.passes(events, rejection=0.5)), ak.flatten(logits) > 0.1)
    columns = compute(both.feature_names, rows)
    np.testing.assert_array_equal(both.logit(rows, columns=columns), ak.flatten(logits))


@pytest.mark.parametrize("features", [(), ("FatJet.pt", "FatJet.tau2")])
@pytest.mark.parametrize("mode", ["virtual", "eager"])
def test_a_map_takes_the_nuisances_of_each_jet(
    taggers: ModuleType, files: dict[str, Path], opened: Any, features: tuple[str, ...], mode: str
) -> None:
    names = ("FatJet.mass", "FatJet.pt")
    plain, mapped = (
        OnnxTagger(taggers.model(of=taggers.card(features=features, mapped=m)), batch_size=24)
        for m in ((), names)
    )
    events = opened(files["pfnano_raw"], mode=mode)
    assert mapped.column_names == [*features, *(n for n in names if n not in features)]
    logit = mapped.logit(events)
    more = 0.01 * (events["FatJet"]["mass"] + events["FatJet"]["pt"])
    np.testing.assert_allclose(
        ak.to_numpy(ak.flatten(logit)),
        ak.to_numpy(ak.flatten(plain.logit(events) + more)),
        rtol=1e-5,
        atol=1e-5,
    )
    rows = objects.rows(events, SPEC)
    given = mapped.inputs(rows)
    assert given["nuisances"].shape == (len(rows), 2)
    np.testing.assert_allclose(mapped.logits(given), ak.flatten(logit), atol=1e-5)
    columns = compute(mapped.column_names, rows)
    np.testing.assert_array_equal(mapped.logit(rows, columns=columns), ak.flatten(logit))


def test_what_leading_leaves_out_is_scored_too(taggers: ModuleType, toy: OnnxTagger, raw: Any) -> None:
    card = taggers.card(objects={**SPEC, "leading": 1})
    assert ak.all(OnnxTagger(taggers.model(of=card))(raw) == toy(raw))
    rows = objects.rows(raw, {**SPEC, "leading": 1})
    np.testing.assert_array_equal(toy(rows), [s[0] for s in toy(raw).tolist() if s])


@pytest.mark.parametrize("kind", ["sets", "lstm"])
@pytest.mark.parametrize("batch_size", [8, 3000])
def test_scores_do_not_depend_on_chunks(taggers: ModuleType, raw: Any, kind: str, batch_size: int) -> None:
    made = OnnxTagger(taggers.model(kind), batch_size=batch_size)
    whole = made.logit(raw)
    parts = [made.logit(raw[a:b]) for a, b in ((0, 1), (1, 8), (8, 40))]
    assert ak.all(ak.concatenate(parts) == whole)
    assert ak.all(OnnxTagger(taggers.model(kind)).logit(raw) == whole)


def test_no_more_than_a_batch_is_padded_at_once(
    both: OnnxTagger, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    original = per_constituent.prepare

    def watched(*args: Any, **options: Any) -> Any:
        shapes.append(original(*args, **options).x.shape)
        return original(*args, **options)

    expected = both(raw)
    monkeypatch.setattr(per_constituent, "prepare", watched)
    assert ak.all(both(raw) == expected)
    assert sum(s[0] for s in shapes) == int(ak.sum(ak.num(raw["FatJet"])))
    assert max(s[0] for s in shapes) <= both.graph.batch_size // 8
    assert len({s[1] for s in shapes}) > 1  # and none further than its jets need
    counts = np.minimum(
        np.diff(constituents.of(objects.rows(raw, SPEC)).start), both.card.constituents.length
    )
    assert sum(s[0] * s[1] for s in shapes) < (counts + 8).sum()


@pytest.mark.parametrize("kind", ["sets", "lstm"])
def test_no_rows_and_events_without_jets(taggers: ModuleType, kind: str, raw: Any) -> None:
    made = OnnxTagger(taggers.model(kind))
    empty = raw[ak.num(raw["FatJet"]) == 0]
    assert len(empty) > 1
    assert made(empty).tolist() == [[]] * len(empty)
    assert made(raw[:0]).tolist() == []
    assert made(objects.rows(raw, SPEC)[:0]).tolist() == []
    assert made.passes(empty, rejection=0.5).tolist() == [[]] * len(empty)


def test_a_tagger_on_features_of_jets_needs_no_constituents(
    taggers: ModuleType, making: ModuleType, files: dict[str, Path], opened: Any
) -> None:
    card = taggers.card(features=taggers.FEATURES, constituents=(), conventions={"collection": "FatJet"})
    made = OnnxTagger(making.model(of=card, width=2))
    for layout in ("plain", "pfnano", "v15"):
        events = opened(files[layout])
        scores = made(events)
        assert ak.num(scores).tolist() == ak.num(events["FatJet"]).tolist()
        jets = ak.flatten(events["FatJet"])
        matrix = np.stack([np.asarray(jets["pt"]), np.asarray(jets["tau2"])], axis=1)
        np.testing.assert_array_equal(ak.flatten(scores), made.scores(matrix))


def test_only_what_is_needed_is_read(toy: OnnxTagger, files: dict[str, Path], opened: Any) -> None:
    log: list[Any] = []
    toy(opened(files["pfnano_raw"], access_log=log))
    read = {entry.branch for entry in log if not entry.branch.startswith("n")}
    link, cand = "FatJetPFCands", "PFCands"
    assert read == {
        *(f"{link}_{k}" for k in ("jetIdx", "pFCandsIdx")),
        *(f"{cand}_{k}" for k in ("pt", "eta", "phi", "charge")),
        *(f"FatJet_{k}" for k in ("eta", "phi")),
    }


def test_pickles(toy: OnnxTagger, raw: Any) -> None:
    assert ak.all(pickle.loads(pickle.dumps(toy))(raw) == toy(raw))


# ---- arrays


def arrays(rows: int = 30, *, length: int = 9, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    count = rng.integers(1, length + 1, rows)
    return {
        "features": rng.normal(size=(rows, 2)),
        "constituents": rng.normal(size=(rows, length, 4)),
        "mask": np.arange(length) < count[:, None],
    }


@pytest.mark.parametrize("nonsense", [np.nan, np.inf, 1e30])
def test_what_stands_in_the_padding_has_no_effect(both: OnnxTagger, nonsense: float) -> None:
    given = arrays()
    clean = both.logits(given)
    given["constituents"][~given["mask"]] = nonsense
    np.testing.assert_array_equal(both.logits(given), clean)
    assert np.isfinite(clean).all()


def test_any_number_of_constituents(both: OnnxTagger) -> None:
    given = arrays()
    expected = both.logits(given)
    longer = {
        **given,
        "constituents": np.pad(given["constituents"], [(0, 0), (0, 50), (0, 0)]),
        "mask": np.pad(given["mask"], [(0, 0), (0, 50)]),
    }
    np.testing.assert_array_equal(both.logits(longer), expected)
    none = {**given, "constituents": np.empty((30, 0, 4)), "mask": np.empty((30, 0))}
    np.testing.assert_array_equal(both.logits(none), both.logits({**given, "mask": 0 * given["mask"]}))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"mask": None},
            r"arrays \['constituents', 'features'\]; the tagger takes features, constituents, mask",
        ),
        ({"more": np.ones(30)}, r"arrays .*'more'.*; the tagger takes"),
        ({"features": np.ones((30, 3))}, r"features of shape \(30, 3\) .* features \(rows, 2\)"),
        ({"constituents": np.ones((30, 9, 5))}, r"constituents of shape \(30, 9, 5\) .*\(rows, any, 4\)"),
        ({"mask": np.ones((30, 8))}, r"constituents of shape \(30, 9, 4\) beside a mask of \(30, 8\)"),
        ({"mask": np.ones(30)}, r"beside a mask of \(30,\)"),
        ({"mask": np.full((30, 9), 0.5)}, "mask holds other values than 0 and 1"),
        ({"constituents": np.full((30, 9, 4), np.nan)}, "constituents is not finite in row 0"),
        ({"features": np.full((30, 2), np.inf)}, "features is not finite in row 0"),
        ({"features": np.ma.masked_array(np.ones((30, 2)))}, "features: masked array"),
        ({"constituents": np.full((30, 9, 4), "a")}, "constituents: .* are no numbers"),
    ],
)
def test_arrays_that_would_be_scored_wrongly(both: OnnxTagger, changed: Any, message: str) -> None:
    given = {k: v for k, v in {**arrays(), **changed}.items() if v is not None}
    with pytest.raises(InputError, match=message):
        both.scores(given)


def test_a_matrix_is_not_what_it_takes(toy: OnnxTagger, making: ModuleType) -> None:
    with pytest.raises(
        InputError, match=r"shape \(3, 4\); the tagger takes arrays by name: constituents, mask"
    ):
        toy.scores(np.ones((3, 4)))
    with pytest.raises(InputError, match=r"the tagger takes \(events, 3\)"):
        OnnxTagger(making.model()).scores(arrays())


# ---- what the tagger refuses


def about(events: Any) -> Any:
    """With metadata as the Runner gives them."""
    return {"dataset": "tt", "filename": "nano.root", "entrystart": 0, "entrystop": 40}


def test_a_v15_file_is_refused_by_a_tagger_of_raw_candidates(
    toy: OnnxTagger, taggers: ModuleType, files: dict[str, Path], opened: Any
) -> None:
    v15 = opened(files["v15"], metadata=about(None))
    message = (
        r"trained with candidates 'raw', nano.root \(dataset 'tt'\), events 0 to 40: these events came with "
        r"'weighted': .*take files of the kind it was trained on"
    )
    for given in (v15, objects.rows(v15, SPEC)):
        with pytest.raises(InputError, match=message):
            toy(given)
    weighted = taggers.card(conventions={"collection": "FatJet", "candidates": "weighted"})
    made = OnnxTagger(taggers.model(of=weighted))
    # PFNano's raw momenta and their weights give what v15 stores, but for rounding
    np.testing.assert_allclose(
        ak.flatten(made.logit(v15)), ak.flatten(made.logit(opened(files["pfnano"]))), atol=1e-4
    )
    with pytest.raises(InputError, match="trained with candidates 'weighted', these events came with 'raw'"):
        made(opened(files["pfnano_raw"]))


def test_files_without_constituents(toy: OnnxTagger, files: dict[str, Path], opened: Any) -> None:
    events = opened(files["plain"], metadata=about(None))
    message = r"nano.root .*needs the constituents of FatJet, and there is no table of them in this file"
    for given in (events, objects.rows(events, SPEC), events[:0]):
        with pytest.raises(InputError, match=message):
            toy(given)


def test_other_objects_than_in_training(toy: OnnxTagger, raw: Any) -> None:
    with pytest.raises(InputError, match=r"trained on objects with collection 'FatJet', these have .* 'Jet'"):
        toy(objects.rows(raw, {"collection": "Jet"}))
    with pytest.raises(InputError, match=r"trained on objects with radius None, these have radius 1.0"):
        toy(objects.rows(raw, {**SPEC, "radius": 1.0}))


def test_an_unknown_collection(taggers: ModuleType, raw: Any) -> None:
    card = taggers.card(objects={"collection": "FatJets"}, conventions={})
    with pytest.raises(InputError, match=r"tagger toy: .*no collection 'FatJets'; did you mean 'FatJet"):
        OnnxTagger(taggers.model(of=card))(raw)


def test_jets_without_constituents_are_scored_counted_and_told_of_once(
    taggers: ModuleType, jets: ModuleType, made: dict[str, Any], tmp_path: Path, opened: Any,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    links = made["JetLink"]
    first = links["jetIdx"] == 0
    changed = {
        f"FatJetPFCands_{k}": links[v][~first] for k, v in (("jetIdx", "jetIdx"), ("pFCandsIdx", "candIdx"))
    }
    path = jets.write(tmp_path / "a.root", made, layout="pfnano_raw", changed=changed)
    events = opened(path)
    toy = OnnxTagger(taggers.model(seed=11))
    monkeypatch.setattr(tagger, "_TOLD", set())
    with caplog.at_level(logging.WARNING):
        scores = toy(events)
        toy(events)
    number = int(ak.sum(ak.num(events["FatJet"]) > 0))
    assert (
        len([r for r in caplog.records if f"{number} of" in r.message and "no constituents" in r.message])
        == 1
    )
    assert toy.notes(objects.rows(events, SPEC)) == {"jets without constituents": number}
    nothing = toy.scores({"constituents": np.empty((1, 0, 4)), "mask": np.empty((1, 0))})[0]
    np.testing.assert_array_equal([s[0] for s in scores.tolist() if s], [nothing] * number)
    assert ak.all(
        scores[:, 1:] == toy(opened(jets.write(tmp_path / "b.root", made, layout="pfnano_raw")))[:, 1:]
    )


def test_zero_pt_negative_mass_and_no_counter(
    taggers: ModuleType, jets: ModuleType, made: dict[str, Any], tmp_path: Path, opened: Any
) -> None:
    cand = made["Cand"]
    soft = cand["pt"] < 1.0
    changed = {
        "PFCands_pt": ak.values_astype(ak.where(soft, 0, cand["pt"]), np.float32),
        "PFCands_mass": ak.values_astype(ak.where(cand["mass"] == 0, -0.01, cand["mass"]), np.float32),
    }
    options = {"layout": "pfnano_raw", "without": ("FatJet_nConstituents",)}
    path = jets.write(tmp_path / "a.root", made, changed=changed, **options)
    toy = OnnxTagger(
        taggers.model(of=taggers.card(constituents=("log_pt", "log_e", "mass", "charge"), length=200))
    )
    rows = objects.rows(opened(path), SPEC)
    scores = np.asarray(toy(rows))
    assert np.isfinite(scores).all()
    dropped = int(ak.sum(soft[made["JetLink"]["candIdx"]]))
    with tagger.shared(rows):
        toy.inputs(rows)
        assert toy.notes(rows)["constituents with pt 0 left out"] == dropped > 0
        assert toy.notes(rows)["negative masses set to 0"] > 0
    # as if the soft ones had never been there
    kept = made["JetLink"][~soft[made["JetLink"]["candIdx"]]]
    links = {"FatJetPFCands_jetIdx": kept["jetIdx"], "FatJetPFCands_pFCandsIdx": kept["candIdx"]}
    other = opened(jets.write(tmp_path / "b.root", made, changed=links, **options))
    np.testing.assert_array_equal(scores, toy(objects.rows(other, SPEC)))


def test_links_out_of_range_name_branch_and_event(
    toy: OnnxTagger, jets: ModuleType, made: dict[str, Any], tmp_path: Path, opened: Any
) -> None:
    links = made["JetLink"]
    for field, branch in (("jetIdx", "jetIdx"), ("candIdx", "pFCandsIdx")):
        changed = {f"FatJetPFCands_{branch}": ak.values_astype(links[field] + 10_000, np.int32)}
        path = jets.write(tmp_path / f"{field}.root", made, layout="pfnano_raw", changed=changed)
        with pytest.raises(InputError, match=rf"tagger toy: branch 'FatJetPFCands.{branch}' points at .* 10"):
            toy(opened(path))


# ---- graphs and tables


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"constituents": ["rows", 7, 4]}, "for any number of constituents"),
        ({"mask": ["rows", 7]}, "in 'mask', for any number of constituents"),
    ],
)
def test_graphs_that_do_not_fit_their_card(taggers: ModuleType, names: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OnnxTagger(taggers.model(names=names))


def test_a_graph_of_more_features_than_its_card(taggers: ModuleType) -> None:
    wider = taggers.card(constituents=("pt", *taggers.CONSTITUENTS))
    with pytest.raises(InputError, match=r"takes shape .*5.*, its card has 4 features in 'constituents'"):
        OnnxTagger(taggers.model(of=wider, says=taggers.card()))


def test_a_card_and_another_graph(taggers: ModuleType, making: ModuleType) -> None:
    with pytest.raises(InputError, match=r"the graph's inputs .*'features'.* are not those of its card"):
        OnnxTagger(making.model(of=taggers.card()))


def test_tables_are_compared_with_the_card(both: OnnxTagger, tmp_path: Path) -> None:
    def table(features: list[str], constituents: list[str], **provenance: Any) -> Table:
        columns = [Column(n, "feature") for n in features]
        columns += [Column(f"constituents.{n}", "constituent", length=3) for n in constituents]
        given = {c.name: np.zeros((2, 3) if c.length else 2, "f4") for c in columns}
        about = {"dataset": "a", "source": "a.root", "start": 0, "stop": 2}
        shard = write_shard(tmp_path, "a.parquet", arrays=given, columns=columns, **about)
        return write_manifest(tmp_path, [shard], columns=columns, datasets={"a": {}}, provenance=provenance)

    features, constituents = both.feature_names, both.card.constituent_names
    conventions = {"collection": "FatJet", "candidates": "raw"}
    both.check_table(table(features, constituents, conventions=conventions))
    for wrong, message in [
        ((features, constituents[:3]), "constituents.charge missing in the table"),
        ((features[:1], constituents), "FatJet.tau2 missing in the table"),
        ((features, constituents[::-1]), "their order is constituents.charge"),
    ]:
        with pytest.raises(InputError, match=message):
            both.check_table(table(*wrong))
    with pytest.raises(InputError, match="trained with candidates 'raw', the table came with 'weighted'"):
        both.check_table(table(features, constituents, conventions={"candidates": "weighted"}))
