"""Where substructure comes from, and what momenta constituents have: kept in tables and cards, enforced."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from coffea.nanoevents import NanoAODSchema

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import conventions, features, objects, rows
from hepdecorr.columnar.filesets import Dataset, expand
from hepdecorr.columnar.running import run
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.table import Table

pytest.importorskip("fastjet")
# coffea tells of every cross-reference that a file has not.
pytestmark = pytest.mark.filterwarnings("ignore:Missing cross-reference|.*already exists:RuntimeWarning")

ROOT = Path(__file__).parents[3]
FATJET = {"collection": "FatJet"}
TAUS = ("FatJet_tau1", "FatJet_tau2", "FatJet_tau3", "FatJet_tau4", "FatJet_msoftdrop")
NUISANCES = {"mass": {"feature": "FatJet.mass", "low": 0.0, "high": 300.0, "bins": 6, "unit": "GeV"}}
MINE = """
import numpy as np
from hepdecorr.columnar import constituents, features
from hepdecorr.columnar.features import feature

@feature(uses=())
def alone(rows):
    return rows["FatJet"]["pt"]

@feature(uses=("tau21",))
def twice(rows):
    return 2 * features.tau21(rows)

@feature(uses=("constituents",))
def hardest(rows):
    found = constituents.of(rows)
    return found.pt[found.start[:-1]]

def silent(rows):
    return rows["FatJet"]["pt"]

def slicing(rows):
    out = np.zeros(len(rows))
    out[1:] = np.diff(constituents.of(rows[1:]).start)
    return out
"""


def spec(substructure: str) -> dict[str, Any]:
    return {**FATJET, "substructure": substructure}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(MINE)
    return folder


@pytest.fixture(scope="module")
def bare(jets: ModuleType, made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same jets in a file without tau_N and softdrop mass."""
    path = tmp_path_factory.mktemp("bare") / "bare.root"
    return Path(jets.write(path, made, layout="pfnano_raw", without=TAUS))


@pytest.fixture(scope="module")
def tagger(making: ModuleType) -> Any:
    """`tagger(features, conventions, **card)`: one on features of FatJets alone."""
    cards = load_file(Path(__file__).with_name("making_taggers.py"))

    def make(
        names: tuple[str, ...], found: dict[str, str], *, base: Path | None = None, **card: Any
    ) -> OnnxTagger:
        given = {"objects": FATJET, "conventions": {"collection": "FatJet", **found}, **card}
        content = making.model(of=cards.card(features=names, constituents=(), **given), width=len(names))
        return OnnxTagger(content, base=base)

    return make


# ---- the key `substructure`


def test_computed_ignores_branches(files: dict[str, Path], bare: Path, opened: Any) -> None:
    names = ["tau1", "tau21", "softdrop_mass", "n_constituents"]
    with_branches, without = opened(files["pfnano_raw"]), opened(bare)
    expected = features.compute(names, objects.rows(without, FATJET))
    rows = objects.rows(with_branches, spec("computed"))
    assert set(features.sources(rows, names).values()) == {"computed"}
    for name, values in features.compute(names, rows).items():
        np.testing.assert_array_equal(values, expected[name])
    stored = features.compute(names, objects.rows(with_branches, spec("stored")))
    for name, branch in (
        ("tau1", "tau1"),
        ("softdrop_mass", "msoftdrop"),
        ("n_constituents", "nConstituents"),
    ):
        flat = np.concatenate([np.asarray(v) for v in with_branches["FatJet"][branch].tolist()])
        np.testing.assert_allclose(stored[name], flat, rtol=1e-6)
    assert np.mean(stored["tau1"] == expected["tau1"]) < 0.1


def test_stored_wants_the_branches(bare: Path, opened: Any) -> None:
    rows = objects.rows(opened(bare), spec("stored"))
    features.compute(["jet_mass", "c2", "n_constituents"], rows)
    for name, branch in (("tau21", "tau2"), ("softdrop_mass", "msoftdrop")):
        with pytest.raises(
            InputError, match=rf"'substructure: stored' wants branch 'FatJet.{branch}'.*'computed'"
        ):
            features.compute(name, rows)


def test_computed_wants_constituents(files: dict[str, Path], opened: Any) -> None:
    rows = objects.rows(opened(files["plain"]), spec("computed"))
    for name in ("tau21", "n_constituents"):
        with pytest.raises(InputError, match="no constituents of 'FatJet'"):
            features.compute(name, rows)
    with pytest.raises(InputError, match="substructure 'calculated'; it is auto, stored, computed"):
        objects.rows(opened(files["plain"]), spec("calculated"))


# ---- what is kept


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), {}),
        (("jet_pt", "FatJet.tau2", "rho", "mine.py:alone", "mine.py:silent"), {}),
        (("tau21", "softdrop_mass"), {"tau21": "branch", "softdrop_mass": "branch"}),
        (("mine.py:twice",), {"tau21": "branch"}),
        (("c2",), {"candidates": "raw"}),
        (("n_constituents",), {"n_constituents": "computed", "candidates": "raw"}),
        (("mine.py:hardest",), {"candidates": "raw"}),
        (("mine.py:slicing",), {"candidates": "raw"}),
    ],
)
def test_only_what_was_used_is_kept(
    files: dict[str, Path], opened: Any, base: Path, names: tuple[str, ...], expected: dict[str, str]
) -> None:
    chosen = objects.rows(opened(files["pfnano_raw"]), FATJET)
    with features.shared(chosen):
        features.compute(names, chosen, base=base)
        found = conventions.about(chosen, names, base=base).conventions
    assert found == {"collection": "FatJet", **expected}


def test_cuts_count_and_events_have_none(files: dict[str, Path], opened: Any) -> None:
    events = opened(files["pfnano_raw"])
    cuts = [
        {"feature": "tau21", "max": 0.5},
        {"feature": "c2", "min": 0},
        "mine.py:good",
        {"function": "a.py:b"},
    ]
    found = conventions.about(objects.rows(events, FATJET), (), cuts=cuts).conventions
    assert found == {"collection": "FatJet", "tau21": "branch", "candidates": "raw"}
    assert conventions.about(events, ()) == ({}, {})


def datasets(folder: Path, *names: str) -> list[Dataset]:
    kinds = ("signal", "background")
    return expand({f"d{i}": {"files": n, "label": kinds[i]} for i, n in enumerate(names)}, base=folder)


def table(found: list[Dataset], folder: Path, **options: Any) -> Table:
    processor = load_file(ROOT / "processors" / "training_table.py").TrainingTable
    made = processor(
        folder=folder, nuisances=NUISANCES, **{"objects": FATJET, "features": ["tau21"], **options}
    )
    out = run(found, made, schema=NanoAODSchema, chunksize=25).out
    return rows.finish_table(
        out["chunks"], folder=folder, columns=made.columns, datasets=found, provenance={}
    )


@pytest.fixture(scope="module")
def samples(jets: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    for i, name in enumerate(("w", "qcd")):
        made = jets.physics(60, process=name, seed=i, start=100 * i)
        jets.write(folder / f"{name}.root", made, layout="pfnano_raw")
        jets.write(folder / f"{name}_bare.root", made, layout="pfnano_raw", without=TAUS)
        jets.write(folder / f"{name}_v15.root", made, layout="v15")
        jets.write(folder / f"{name}_plain.root", made, layout="plain")
    return folder


def test_mixed_sources_make_no_table(samples: Path, tmp_path: Path) -> None:
    mixed = datasets(samples, "w.root", "qcd_bare.root")
    message = (
        r"w.root and .*qcd_bare.root differ in their tau21: 'branch' and 'computed'.*'substructure' in 'obj"
    )
    with pytest.raises(InputError, match=message):
        table(mixed, tmp_path / "a")
    made = table(mixed, tmp_path / "b", objects=spec("computed"))
    known = {"collection": "FatJet", "tau21": "computed", "candidates": "raw"}
    assert made.provenance["conventions"] == known
    with pytest.raises(
        InputError, match=r"qcd_bare.root .*'substructure: stored' wants branch 'FatJet.tau2'"
    ):
        table(mixed, tmp_path / "c", objects=spec("stored"))


def test_a_table_of_branches_takes_files_of_all_kinds(samples: Path, tmp_path: Path) -> None:
    made = table(datasets(samples, "w.root", "qcd_v15.root"), tmp_path / "a")
    assert made.provenance["conventions"] == {"collection": "FatJet", "tau21": "branch"}
    made = table(datasets(samples, "w_v15.root", "qcd_plain.root"), tmp_path / "b")
    assert made.provenance["conventions"] == {"collection": "FatJet", "tau21": "branch"}
    with pytest.raises(InputError, match=r"differ in their candidates"):
        table(datasets(samples, "w.root", "qcd_v15.root"), tmp_path / "c", features=["tau21", "c2"])


def test_what_was_mended_is_in_the_cutflow(
    jets: ModuleType, tagger: Any, samples: Path, tmp_path: Path
) -> None:
    made = jets.physics(60, seed=5)
    tau = made["Jet"]["tau2"]
    links = made["JetLink"][made["JetLink"]["jetIdx"] > 0]
    changed = {
        "FatJet_tau2": tau * 0 - 1,
        "FatJetPFCands_jetIdx": links["jetIdx"],
        "FatJetPFCands_pFCandsIdx": links["candIdx"],
    }
    jets.write(tmp_path / "odd.root", made, layout="pfnano_raw", changed=changed)
    given = expand({"d0": {"files": "odd.root", "label": "signal"}}, base=tmp_path, labels=False)
    number = int(np.sum([len(t) for t in tau.tolist()]))
    first = int(np.sum([len(t) > 0 for t in tau.tolist()]))
    branch, empty = "FatJet.tau2 negative or not finite, 0 taken", "jets without constituents"
    flow = table(given, tmp_path / "a").datasets["d0"]["cutflow"]
    assert (flow[branch], empty in flow) == (number, False)
    flow = table(given, tmp_path / "b", features=["tau21", "c2"]).datasets["d0"]["cutflow"]
    assert (flow[branch], flow[empty]) == (number, first)
    flow = table(given, tmp_path / "c", objects=spec("computed")).datasets["d0"]["cutflow"]
    assert (branch in flow, flow[empty]) == (False, first)

    sculpting = load_file(ROOT / "processors" / "sculpting.py").Sculpting
    path = tmp_path / "tagger.onnx"
    for names, expected in (
        (("tau21",), {branch: number}),
        (("tau21", "c2"), {branch: number, empty: first}),
    ):
        path.write_bytes(tagger(names, {"tau21": "branch"}).graph.payload)
        made = sculpting(taggers={"t": path}, nuisances=NUISANCES, objects=FATJET)
        (record, *more) = run(given, made, schema=NanoAODSchema, chunksize=1000).out["chunks"]
        assert not more
        assert record["cutflow"] == {"all": number, **expected}
        assert record["conventions"]["tau21"] == "branch"


# ---- what taggers refuse


def test_a_tagger_wants_the_source_it_was_trained_with(
    files: dict[str, Path], bare: Path, opened: Any, tagger: Any, base: Path
) -> None:
    stored, computed = opened(files["pfnano_raw"]), opened(bare)
    for name in ("tau21", "mine.py:twice"):
        of_branches = tagger((name,), {"tau21": "branch", "candidates": "raw"}, base=base)
        of_branches(stored)
        with pytest.raises(
            InputError, match=r"trained with tau21 'branch', .* came with 'computed'.*'substructure: stored'"
        ):
            of_branches(computed)
        own = tagger((name,), {"tau21": "computed", "candidates": "raw"}, base=base)
        own(computed)
        with pytest.raises(
            InputError,
            match=r"trained with tau21 'computed', .* came with 'branch'.*'substructure: computed'",
        ):
            own(stored)
        np.testing.assert_array_equal(
            own(objects.rows(stored, spec("computed"))), own(objects.rows(computed, FATJET))
        )
    # a card with the key computes by itself
    own = tagger(("tau21",), {"tau21": "computed", "candidates": "raw"}, objects=spec("computed"))
    assert own(stored).tolist() == own(computed).tolist()
    # what it does not use may be different
    tagger(("jet_pt",), {"tau21": "branch"})(computed)


def test_a_tagger_of_branches_takes_files_of_all_kinds(
    files: dict[str, Path], opened: Any, tagger: Any, base: Path
) -> None:
    names = ("tau21", "FatJet.pt", "mine.py:alone")
    # its table had constituents for others
    made = tagger(names, {"tau21": "branch", "candidates": "raw"}, base=base)
    for layout in ("pfnano_raw", "pfnano", "v15", "plain"):
        assert len(made(opened(files[layout]))) == 40


@pytest.mark.parametrize("name", ["c2", "n_constituents", "mine.py:hardest", "mine.py:silent"])
def test_a_tagger_of_what_constituents_give_wants_its_kind(
    files: dict[str, Path], opened: Any, tagger: Any, base: Path, name: str
) -> None:
    made = tagger((name,), {"candidates": "raw"}, base=base)
    made(opened(files["pfnano_raw"]))
    for layout in ("pfnano", "v15"):
        with pytest.raises(InputError, match=r"trained with candidates 'raw', .* came with 'weighted'"):
            made(opened(files[layout]))
