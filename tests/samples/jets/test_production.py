"""Files: the same for any number of workers, in both layouts, unique events, errors that help."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdecorr.cli.main import main
from hepdecorr.errors import InputError
from hepdecorr.samples import read_provenance
from hepdecorr.samples.jets import Options, Summary, generate, luminosity_block, regenerate
from hepdecorr.samples.jets.clustering import fastjet_module

Load = Callable[[Path], ak.Array]

EVENT = {"run": "uint32_t", "luminosityBlock": "uint32_t", "event": "uint64_t"}
EVENT |= {"genWeight": "float", "Generator_ptHat": "float"}
JET = {
    **dict.fromkeys(("pt", "eta", "phi", "mass", "msoftdrop", "tau1", "tau2", "tau3", "tau4"), "float[]"),
    **dict.fromkeys(("nConstituents", "genFlavour", "nMatchedQuarks"), "int32_t[]"),
}
CANDIDATE = {**dict.fromkeys(("pt", "eta", "phi", "mass"), "float[]"), "pdgId": "int32_t[]"}


def make(out: Path, process: str = "w", **arguments: Any) -> Summary:
    options = Options(**{"mpi": False, **arguments.pop("options", {})})
    return generate(process, out=out, **{"seed": 3, "job_events": 30, "options": options, **arguments})


def assert_equal(one: ak.Array, other: ak.Array) -> None:
    assert one.fields == other.fields
    for name in one.fields:
        assert ak.array_equal(one[name], other[name], dtype_exact=True), name


def ids(events: ak.Array) -> set[tuple[int, ...]]:
    columns = (events[name].tolist() for name in ("run", "luminosityBlock", "event"))
    found = set(zip(*columns, strict=True))
    assert len(found) == len(events)
    return found


@pytest.mark.parametrize(
    ("layout", "candidates", "links", "pointer"),
    [("pfnano", "PFCands", "FatJetPFCands", "pFCandsIdx"), ("v15", "PFCand", "FatJetPFCand", "pfCandIdx")],
)
def test_branches_types_and_counters(
    layout: str, candidates: str, links: str, pointer: str, layouts: dict[str, Path]
) -> None:
    fields = CANDIDATE | ({"charge": "int32_t[]"} if layout == "pfnano" else {})
    tables = {"FatJet": JET, candidates: fields, links: {"jetIdx": "int32_t[]", pointer: "int32_t[]"}}
    with uproot.open(layouts[layout]) as file:
        assert file.classnames()["Events;1"] == "TTree"
        found = {branch.name: branch.typename for branch in file["Events"].branches}
        titles = {branch.name: branch.title for branch in file["Events"].branches}
    expected = dict(EVENT)
    for table, columns in tables.items():
        expected[f"n{table}"] = "int32_t"
        expected |= {f"{table}_{name}": kind for name, kind in columns.items()}
    assert found == expected
    # One counter a collection, whatever the branch.
    assert titles["FatJet_tau1"] == "FatJet_tau1[nFatJet]/F"
    assert titles[f"{links}_{pointer}"] == f"{links}_{pointer}[n{links}]/I"


@pytest.fixture(scope="module")
def layouts(generators: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same events in both layouts."""
    folder = tmp_path_factory.mktemp("layouts")
    return {
        layout: make(folder / f"{layout}.root", "top", events=30, options={"layout": layout}).out
        for layout in ("pfnano", "v15")
    }


@pytest.mark.usefixtures("quiet_schemas")
@pytest.mark.parametrize("mode", ["eager", "virtual"])
def test_coffea_reads_the_same_constituents_in_both_layouts(layouts: dict[str, Path], mode: str) -> None:
    from coffea.nanoevents import NanoAODSchema, NanoEventsFactory, PFNanoAODSchema

    def read(layout: str, schema: type) -> ak.Array:
        file = {str(layouts[layout]): "Events"}
        return NanoEventsFactory.from_root(file, schemaclass=schema, mode=mode).events()

    pfnano, v15 = read("pfnano", PFNanoAODSchema), read("v15", NanoAODSchema)
    one = pfnano.FatJet.constituents.pf
    links = v15.FatJetPFCand
    candidates = v15.PFCand[links.pfCandIdx]
    counts = ak.flatten(v15.FatJet.nConstituents)
    for field in CANDIDATE:
        flat = ak.flatten(ak.flatten(one[field], axis=2))
        np.testing.assert_array_equal(flat, ak.flatten(candidates[field]))
    assert ak.flatten(ak.num(one, axis=2)).tolist() == counts.tolist()
    expected = ak.flatten(
        ak.local_index(one.pt, axis=1) * ak.ones_like(ak.values_astype(one.pt, int)), axis=None
    )
    np.testing.assert_array_equal(ak.flatten(links.jetIdx), expected)
    # The jets are the sums of their constituents.
    p4 = ak.zip({k: ak.values_astype(one[k], "float64") for k in ("pt", "eta", "phi", "mass")})
    px, py = ak.sum(p4.pt * np.cos(p4.phi), axis=2), ak.sum(p4.pt * np.sin(p4.phi), axis=2)
    pz = ak.sum(p4.pt * np.sinh(p4.eta), axis=2)
    energy = ak.sum(np.sqrt((p4.pt * np.cosh(p4.eta)) ** 2 + p4.mass**2), axis=2)
    mass = np.sqrt(energy**2 - px**2 - py**2 - pz**2)
    np.testing.assert_allclose(ak.flatten(mass), ak.flatten(pfnano.FatJet.mass), rtol=1e-5)
    np.testing.assert_allclose(ak.flatten(np.hypot(px, py)), ak.flatten(pfnano.FatJet.pt), rtol=1e-6)
    assert pfnano.FatJet["tau2"].tolist() == v15.FatJet["tau2"].tolist()


@pytest.mark.usefixtures("generators")
def test_the_file_is_the_same_for_any_number_of_workers(tmp_path: Path, load: Load) -> None:
    one = make(tmp_path / "one.root", "qcd", workers=1, jets=50, job_events=20)
    two = make(tmp_path / "two.root", "qcd", workers=2, jets=50, job_events=20)
    assert one.jobs == two.jobs > 1
    assert one.cutflow == two.cutflow
    assert_equal(load(one.out), load(two.out))
    assert read_provenance(one.out) == read_provenance(two.out)


@pytest.mark.usefixtures("generators")
def test_jobs_can_be_made_again_and_events_are_unique(tmp_path: Path, load: Load) -> None:
    made = make(tmp_path / "one.root", jets=60, job_events=20)
    assert made.jobs >= 2
    events = load(made.out)
    assert_equal(ak.concatenate([regenerate(made.out, job) for job in range(1, made.jobs + 1)]), events)
    assert set(events.luminosityBlock.tolist()) == {luminosity_block(3, j) for j in range(1, made.jobs + 1)}
    # The file ends with the event of the last jet that is wanted.
    assert ak.sum(events.nFatJet[:-1]) < 60 <= made.stored == ak.sum(events.nFatJet)
    assert made.events == 20 * (made.jobs - 1) + int(events.event[-1]) + 1
    assert made.cutflow == {"generated": made.events, "jet": len(events)}
    other = load(make(tmp_path / "other.root", jets=30, seed=4).out)
    more = load(make(tmp_path / "qcd.root", "qcd", jets=30).out)
    assert not ids(events) & ids(other)
    assert not (ids(events) | ids(other)) & ids(more)
    assert not set(events.FatJet_pt[:, 0].tolist()) & set(other.FatJet_pt[:, 0].tolist())
    with pytest.raises(InputError, match=f"no job {made.jobs + 1}; it has jobs 1 to {made.jobs}"):
        regenerate(made.out, made.jobs + 1)


@pytest.mark.usefixtures("generators")
def test_options_act_on_the_sample(tmp_path: Path, load: Load) -> None:
    seen: list[int] = []
    made = make(
        tmp_path / "x.root",
        "h4j",
        jets=25,
        job_events=60,
        options={"mass": 120.0, "light_mass": 40.0, "radius": 0.8, "pt_min": 600.0, "mpi": True},
        progress=seen.append,
    )
    events, told = load(made.out), read_provenance(made.out)
    assert seen[-1] == made.stored
    assert ak.min(events.FatJet_pt) > 600
    assert ak.min(events.Generator_ptHat) >= 600
    four = ak.flatten(events.FatJet_mass)[ak.flatten(events.FatJet_nMatchedQuarks) == 4]
    assert np.median(four) == pytest.approx(120, rel=0.15)
    assert told["options"]["light_mass"] == 40
    assert "PartonLevel:MPI = on" in told["pythia"]
    assert {"fastjet", "pythia8mc", "hepdecorr"} <= set(told["versions"])


@pytest.mark.usefixtures("generators")
def test_each_job_of_a_range_of_masses_has_its_own(tmp_path: Path, load: Load) -> None:
    made = make(
        tmp_path / "x.root", jets=180, job_events=40, options={"boson_mass": 40.0, "boson_mass_max": 250.0}
    )
    events, told = load(made.out), read_provenance(made.out)
    masses = told["boson_mass_per_job"]
    assert len(masses) == made.jobs >= 3
    assert len(set(masses)) == made.jobs
    assert f"24:m0 = {masses[0]:g}" in told["pythia"]
    for job, mass in enumerate(masses, 1):
        own = events[events.luminosityBlock == luminosity_block(3, job)]
        whole = ak.flatten(own.FatJet_nMatchedQuarks) == 2
        assert np.median(ak.flatten(own.FatJet_msoftdrop)[whole]) == pytest.approx(mass, rel=0.12)
    last = events[events.luminosityBlock == luminosity_block(3, made.jobs)]
    assert_equal(regenerate(made.out, made.jobs), last)


@pytest.mark.usefixtures("generators")
def test_no_jets_make_an_empty_tree(tmp_path: Path, load: Load) -> None:
    made = make(tmp_path / "none.root", "top", events=3, options={"pt_min": 2990.0, "mass": 5980.0})
    events = load(made.out)
    assert made.stored == len(events) == 0
    assert "PFCands_pt" in events.fields


@pytest.mark.usefixtures("generators")
@pytest.mark.parametrize(
    ("process", "arguments", "message"),
    [
        ("ttop", {"events": 5}, "no process 'ttop'; did you mean 'top'"),
        ("w", {}, "either the events to generate or the jets to store"),
        ("w", {"jets": 0}, "jets must be above 0, not 0"),
        ("w", {"jets": 5, "workers": 0}, "workers must be above 0"),
        ("w", {"jets": 5, "options": {"mass": 500.0}}, "mass must lie in"),
    ],
)
def test_arguments_out_of_range(
    process: str, arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        make(tmp_path / "x.root", process, **arguments)
    assert not list(tmp_path.iterdir())


def test_without_fastjet_the_message_says_what_to_install(
    pythia: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastjet", None)
    fastjet_module.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'hepdecorr\[samples\]'"):
        make(tmp_path / "x.root", events=5)
    assert not list(tmp_path.iterdir())


def command(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of `hepdecorr generate jets ...`."""
    monkeypatch.setattr(sys, "argv", ["hepdecorr", "generate", "jets", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.mark.usefixtures("generators")
def test_the_command_makes_a_file_and_says_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], load: Load
) -> None:
    out = tmp_path / "made" / "h.root"
    words = ["--process", "w", "--jets", "12", "--no-mpi", "--layout", "v15", "--pt-min", "500"]
    assert command(*words, "--seed", "7", "--out", str(out), monkeypatch=monkeypatch) == 0
    events = load(out)
    told = read_provenance(out)
    assert told["seed"] == 7
    assert told["options"]["layout"] == "v15"
    assert ak.min(events.FatJet_pt) > 500
    assert f"{ak.sum(events.nFatJet)} jets from {told['generated']} events" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--process", "w", "--mass", "100", "--jets", "5"], "mass must lie in"),
        (["--process", "z", "--jets", "5"], "jets has no process 'z'"),
        (["--jets", "5", "--out", "x.root"], "one file holds one process"),
        (["--jets", "5", "--mass", "1500"], "add --process"),
        (["--jets", "5", "--top-mass", "80"], "add --process"),
        (["--process", "w", "--boson-mass-max", "80", "--jets", "5"], "give boson_mass"),
        (["--process", "qcd"], "give either the events to generate or the jets to store"),
        (["--process", "qcd", "--jets", "3", "--out", "{file}/x.root"], "cannot be written"),
    ],
)
@pytest.mark.usefixtures("generators")
def test_the_command_explains_errors(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    assert command(*(w.format(file=tmp_path / "a_file") for w in words), monkeypatch=monkeypatch) == 2
    told = capfd.readouterr().err
    assert message in " ".join(told.split())
    assert "Traceback" not in told
    assert not list(tmp_path.rglob("*.root"))
