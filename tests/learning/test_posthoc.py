"""Transforms of the score: against closed forms, flat on events of their own, the same in the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from scipy import stats

from hepdecorr import catalogue
from hepdecorr.card import Nuisance
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.errors import InputError
from hepdecorr.learning import finish, posthoc, train
from hepdecorr.learning.posthoc import Chain, Transform, apply
from hepdecorr.table import Split
from hepdecorr.validation.measures import sculpting

SPLIT = Split(10, (0, 1), (2, 3))
SLOPE, SIGMA = 0.8, 0.7
SPECS: dict[str, dict] = {
    "DDT": {"type": "DDT"},
    "smooth": {"type": "QuantileMap"},
    "binned": {"type": "QuantileMap", "form": "binned"},
    "steps": {"type": "QuantileMap", "form": "binned", "bins": 40, "interpolate": False},
    "fixed": {"type": "FixedEfficiency", "rejection": 0.9},
    "nearest": {"type": "FixedEfficiency", "rejection": 0.9, "form": "knn", "bins": 30},
    "transport": {"type": "Transport"},
    "flow": {"type": "Transport", "form": "flow", "flow": {"steps": 400, "batch": 2000, "lr": 0.01}},
}
SHIFTS = ("DDT", "fixed", "nearest")  # of a score that only shifts with z they leave nothing of it


def made(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A nuisance uniform in [-1, 1] and a score that is Gaussian around SLOPE times it."""
    draw = np.random.default_rng(seed)
    z = draw.uniform(-1, 1, n)
    return SLOPE * z + SIGMA * draw.normal(size=n), z


def chain(name: str, *, n: int = 30_000, w: np.ndarray | None = None, **more: object) -> Chain:
    score, z = made(n, seed=1)
    block = Chain.read([{"nuisance": "mass", **SPECS[name], **more}], known=["mass"])
    block.fit(score, {"mass": z}, np.ones(n) if w is None else w)
    return block


@pytest.fixture(scope="module", params=list(SPECS))
def fitted(request: pytest.FixtureRequest) -> tuple[str, Chain]:
    return request.param, chain(request.param)


def test_every_transform_is_tried() -> None:
    assert {spec["type"] for spec in SPECS.values()} == set(posthoc.__all__)


def test_the_map_is_that_of_a_gaussian(fitted) -> None:
    """F(s|z) = Phi((s - a z) / sigma): what each transform gives is known."""
    name, block = fitted
    z, pull = (v.ravel() for v in np.meshgrid(np.linspace(-0.93, 0.93, 31), np.linspace(-2.2, 2.4, 24)))
    score = SLOPE * z + SIGMA * pull
    found = apply(block, score, {"mass": z}).astype(float)
    if name in SHIFTS:
        zero = SIGMA * stats.norm.ppf(0.9) if name != "DDT" else -SLOPE * block.transforms[0].ref.item()
        np.testing.assert_allclose(found, SIGMA * pull - zero, atol=0.1 if name == "nearest" else 0.05)
        return
    if name in ("transport", "flow"):
        s = np.linspace(-4, 4, 801)
        whole = stats.norm.cdf((s - SLOPE * np.linspace(-1, 1, 401)[:, None]) / SIGMA).mean(0)
        wanted = np.interp(stats.norm.cdf(pull), whole, s)
        assert np.abs(found - wanted).max() < {"transport": 0.12, "flow": 0.2}[name]
        assert np.abs(found - wanted).mean() < {"transport": 0.025, "flow": 0.05}[name]
        return
    wanted = stats.norm.logcdf(pull) - stats.norm.logsf(pull)
    # In units of what 30,000 events leave a single log odds uncertain: as the root of the freedom of the fit,
    # that is few components of the splines, or all bins; a step is half a bin wrong at its edges besides.
    off = (found - wanted) * np.sqrt(30_000 * stats.norm.cdf(pull) * stats.norm.sf(pull))
    assert np.sqrt(np.mean(off**2)) < {"smooth": 2.5, "binned": 5.0, "steps": 9.0}[name]
    assert np.abs(off).max() < {"smooth": 7, "binned": 18, "steps": 30}[name]


def test_what_it_was_not_fitted_on_is_flat(fitted) -> None:
    name, block = fitted
    score, z = made(40_000, seed=2)
    mapped = apply(block, score, {"mass": z})
    raw, flat = (
        [sculpting(s, z, range=(-1, 1), rejection=r, permutations=200, replicas=50) for r in (0.5, 0.9, 0.99)]
        for s in (score, mapped)
    )
    assert max(one.p_value for one in raw) < 0.01
    if name in (*SHIFTS[:2], "smooth", "transport"):
        assert min(one.p_value for one in flat) > 0.01
    assert all(b.excess < 0.1 * a.excess for a, b in zip(raw, flat, strict=True))
    if name in ("smooth", "binned", "steps"):
        share = 1 / (1 + np.exp(-mapped.astype(float)))
        assert np.abs(np.quantile(share, [0.1, 0.5, 0.9, 0.99]) - [0.1, 0.5, 0.9, 0.99]).max() < 0.01


def test_the_order_of_scores_is_kept(fitted) -> None:
    _, block = fitted
    score = np.linspace(-9, 9, 4001)
    for z in (-5.0, -1.0, -0.31, 0.0, 0.777, 1.0, 40.0):
        assert (np.diff(apply(block, score, {"mass": np.full(4001, z)})) > 0).all()


def test_beyond_the_nuisances_of_the_fit_it_is_as_at_their_ends(fitted) -> None:
    _, block = fitted
    score = np.linspace(-2, 2, 9)
    low, high = (made(30_000, seed=1)[1].min(), made(30_000, seed=1)[1].max())
    for inside, outside in ((low, -1e6), (high, 1e6)):
        at, beyond = (apply(block, score, {"mass": np.full(9, v)}) for v in (inside, outside))
        np.testing.assert_allclose(at, beyond, atol=1e-5)


@pytest.mark.parametrize("name", ["DDT", "smooth", "binned", "fixed", "nearest", "transport"])
def test_weights_count_and_only_their_ratios_do(name: str) -> None:
    """Events of weight zero, or below, are as absent; a factor changes nothing; weight 2 is two events."""
    score, z = made(9000, seed=4)
    other, elsewhere = made(3000, seed=5)
    grid = np.linspace(-1.5, 1.5, 7)
    at = {"mass": np.linspace(-0.8, 0.8, 7)}

    def of(*parts: tuple[np.ndarray, np.ndarray, float]) -> np.ndarray:
        block = Chain.read([{"nuisance": "mass", **SPECS[name]}], known=["mass"])
        s, z, w = (
            np.concatenate(v) for v in zip(*[(s, z, np.full(len(s), w)) for s, z, w in parts], strict=True)
        )
        block.fit(s, {"mass": z}, w)
        return apply(block, grid, at)

    alone = of((score, z, 1.0))
    np.testing.assert_allclose(of((score, z, 7.0)), alone, atol=1e-4)
    np.testing.assert_allclose(of((score, z, 1.0), (other + 3, elsewhere, 0.0)), alone, atol=1e-4)
    np.testing.assert_allclose(of((score, z, 1.0), (other + 3, elsewhere, -1.0)), alone, atol=1e-4)
    tilted = other + 1.5 * elsewhere
    heavy = of((score, z, 1.0), (tilted, elsewhere, 2.0))
    twice = of((score, z, 1.0), (tilted, elsewhere, 1.0), (tilted, elsewhere, 1.0))
    assert np.abs(heavy - alone).max() > 0.2
    # Two events tell more than one of weight two, for which the splines may be less stiff.
    np.testing.assert_allclose(heavy, twice, atol=1e-4 if name == "DDT" else 0.15)


def test_two_nuisances() -> None:
    draw = np.random.default_rng(3)
    z = {"rho": draw.uniform(0, 1, 30_000), "pt": draw.exponential(size=30_000)}
    score = np.sin(3 * z["rho"]) * np.minimum(z["pt"], 2) + 0.5 * draw.normal(size=30_000)
    for form, most in (("smooth", 0.25), ("binned", 1.2)):
        spec = {"type": "QuantileMap", "nuisance": ["rho", "pt"], "form": form, "bins": 144}
        block = Chain.read([spec], known=["rho", "pt"])
        assert block.nuisances == ("rho", "pt")
        block.fit(score, z, np.ones(30_000))
        at = {"rho": np.array([0.2, 0.5, 0.5, 0.8]), "pt": np.array([0.5, 0.3, 1.2, 0.6])}
        pull = np.array([0.0, 1.0, -1.0, 2.0])
        found = apply(block, np.sin(3 * at["rho"]) * at["pt"] + 0.5 * pull, at)
        wanted = stats.norm.logcdf(pull) - stats.norm.logsf(pull)
        assert np.abs(found - wanted).max() < most
    for spec in ({"type": "FixedEfficiency", "form": "knn"}, {"type": "Transport"}):
        block = Chain.read([{"nuisance": ["rho", "pt"], **spec}], known=["rho", "pt"])
        block.fit(score, z, np.ones(30_000))
        found = apply(block, score, z)
        cut = 0 if spec["type"] == "FixedEfficiency" else np.quantile(found, 0.95)
        for low, high in ((0, 0.3), (0.3, 0.7), (0.7, 1)):
            for other in (0, 0.7, 2):
                own = (z["rho"] >= low) & (z["rho"] < high) & (z["pt"] >= other) & (z["pt"] < other + 1)
                assert (found[own] > cut).mean() == pytest.approx(0.05, abs=0.025)


def test_transforms_follow_one_another() -> None:
    block = Chain.read(
        [{"type": "DDT", "nuisance": "mass"}, {"type": "QuantileMap", "nuisance": "mass"}], known=["mass"]
    )
    score, z = made(20_000, seed=6)
    block.fit(score, {"mass": z}, np.ones(20_000))
    found = apply(block, SLOPE * z, {"mass": z})
    assert np.abs(found).max() < 0.15  # log odds of the median


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mass": np.zeros(5000)}, "mass has the same value in all background events"),
        ({"mass": np.where(np.arange(5000) == 7, np.nan, 1.0)}, "mass is not finite in 1 of 5000"),
        ({"score": np.zeros(5000)}, "score has the same value"),
        ({"weight": np.where(np.arange(5000) < 150, 1.0, 0.0)}, "150 effective background events"),
    ],
)
@pytest.mark.parametrize("name", ["DDT", "smooth"])
def test_background_that_says_nothing(name: str, change: dict, message: str) -> None:
    score, z = made(5000, seed=7)
    block = Chain.read([{"nuisance": "mass", **SPECS[name]}], known=["mass"])
    with pytest.raises(InputError, match=message):
        block.fit(
            change.get("score", score), {"mass": change.get("mass", z)}, change.get("weight", np.ones(5000))
        )


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ([], "posthoc must list transforms"),
        ("QuantileMap", "posthoc must list transforms"),
        ([{"type": "QuantilMap", "nuisance": "mass"}], "did you mean 'QuantileMap'"),
        ([{"type": "QuantileMap", "nuisance": "mas"}], "'mas' is no nuisance; did you mean 'mass'"),
        ([{"type": "QuantileMap"}], "needs 'nuisance'"),
        ([{"type": "QuantileMap", "nuisance": ["mass"] * 3}], "takes one or two nuisances, not 3"),
        ([{"type": "DDT", "nuisance": ["mass", "pt"]}], "DDT takes one nuisance, not 2"),
        ([{"type": "DDT", "nuisance": "mass", "range": [1, 0]}], "range must be"),
        ([{"type": "QuantileMap", "nuisance": "mass", "form": "smoth"}], "no form 'smoth'; did you mean"),
        (
            [{"type": "QuantileMap", "nuisance": "mass", "bins": 1}],
            "bins must be a whole number of at least 2",
        ),
        ([{"type": "Chain", "transforms": []}], "must derive from"),
        ([{"type": "FixedEfficiency", "nuisance": "mass", "rejection": 95}], "lies between 0 and 1"),
        ([{"type": "Transport", "nuisance": "mass", "flow": {"step": 3}, "form": "flow"}], "no 'step'"),
        ([{"type": "Transport", "nuisance": "mass", "form": "flwo"}], "no form 'flwo'; did you mean 'flow'"),
        ([{"type": "FixedEfficiency", "nuisance": "mass", "form": "kn"}], "did you mean 'knn'"),
        (
            [{"type": "DTT", "nuisance": "mass"}],
            "^no 'DTT' in hepdecorr.learning.posthoc; did you mean 'DDT'",
        ),
        ({"maps": [{"type": "DDT", "nuisance": "mass"}], "into": "grap"}, "no 'grap'; did you mean 'graph'"),
        ({"map": [{"type": "DDT", "nuisance": "mass"}]}, "posthoc must list transforms"),
    ],
)
def test_blocks_that_cannot_be(block: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Chain.read(block, known=["mass", "pt"])


@pytest.mark.parametrize("bins", [900, 5000])
def test_too_many_bins_for_the_events(bins: int) -> None:
    with pytest.raises(InputError, match=f"take fewer bins than {bins}"):
        chain("binned", n=1000, bins=bins)


# ---- in the graph


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory, make_table_once) -> tuple[Path, object, object]:
    table = make_table_once
    spec = {
        "type": "Tagger",
        "network": {"type": "MLP", "hidden": [8]},
        "training": {"epochs": 4, "batch": 300, "lr": 0.02},
        "posthoc": [{"type": "DDT", "nuisance": "mass"}, {"type": "QuantileMap", "nuisance": "mass"}],
    }
    trained = train(spec, table=table, split=SPLIT, seed=3, device="cpu")
    folder = finish(
        trained,
        name="mapped",
        folder=tmp_path_factory.mktemp("models") / "mapped",
        table=table,
        nuisances=[Nuisance(name="mass", low=-3, high=3, feature="Jet.mass")],
        config_hash="",
        rejections=(0.5, 0.9),
    )
    return folder, trained, table


@pytest.fixture(scope="module")
def make_table_once(tmp_path_factory: pytest.TempPathFactory):
    return catalogue.load_file(Path(__file__).with_name("conftest.py")).make_table_in(
        tmp_path_factory.mktemp("table"), 6000
    )


def test_the_graph_takes_the_nuisance_and_gives_what_torch_gives(tagger) -> None:
    folder, trained, table = tagger
    session = onnxruntime.InferenceSession(folder / "tagger.onnx", providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["features", "nuisances"]
    opened = OnnxTagger(folder)
    assert opened.card.nuisance_names == ["Jet.mass"]
    assert opened.column_names == ["leaky", "clean", "noise", "Jet.mass"]
    own = table.read()
    x = np.stack([own[n] for n in opened.feature_names], 1)
    with torch.no_grad():
        raw = trained.method.logit(torch.from_numpy(x)).numpy()
    wanted = apply(trained.posthoc, raw, {"mass": own["mass"]})
    z = own["mass"][:, None]
    np.testing.assert_allclose(opened.logits({"features": x, "nuisances": z}), wanted, rtol=1e-4, atol=1e-4)
    assert np.abs(wanted - raw).max() > 0.5
    # Working points are fixed on the mapped logit: half of all background passes that of 0.5.
    below = wanted[(own["label"] == 0) & (own["fold"] == 2)]
    assert (below > opened.thresholds[0.5]).mean() == pytest.approx(0.5, abs=0.07)
    assert opened.thresholds[0.9] == pytest.approx(np.log(9), abs=0.3)


def test_the_tagger_is_fitted_on_what_trained_and_validated_alone(tagger) -> None:
    _, trained, table = tagger
    own = table.read()
    background = (own["label"] == 0) & ~np.isin(own["fold"], SPLIT.test)
    x = np.stack([own[n] for n in trained.layout.features], 1)[background]
    with torch.no_grad():
        raw = trained.method.logit(torch.from_numpy(x)).numpy()
    again = Chain.read(trained.spec["posthoc"], known=["mass"])
    again.fit(raw, {"mass": own["mass"][background]}, own["weight"][background])
    np.testing.assert_allclose(
        apply(again, raw, {"mass": own["mass"][background]}),
        apply(trained.posthoc, raw, {"mass": own["mass"][background]}),
        atol=2e-3,
    )


def test_what_the_mapped_tagger_refuses(tagger) -> None:
    opened = OnnxTagger(tagger[0])
    x, z = np.zeros((4, 3)), np.zeros((4, 1))
    assert opened.scores({"features": x[:0], "nuisances": z[:0]}).shape == (0,)
    with pytest.raises(InputError, match="takes arrays by name: features, nuisances"):
        opened.scores(x)
    with pytest.raises(InputError, match=r"nuisances is not finite in row 2 \(Jet.mass\)"):
        opened.scores({"features": x, "nuisances": np.where(np.arange(4) == 2, np.nan, 0)[:, None]})
    with pytest.raises(InputError, match=r"nuisances of shape \(4, 2\) .* nuisances \(rows, 1\)"):
        opened.scores({"features": x, "nuisances": np.zeros((4, 2))})
    with pytest.raises(InputError, match=r"arrays \['features'\]; the tagger takes features, nuisances"):
        opened.scores({"features": x})


# ---- as cuts of correctionlib


@pytest.mark.parametrize("names", [["mass"], ["mass", "pt"]])
def test_cuts_of_correctionlib_do_what_the_map_does(names: list[str]) -> None:
    score, z = made(20_000, seed=8)
    own = {"mass": z, "pt": np.random.default_rng(9).exponential(size=20_000)}
    block = Chain.read(
        {"maps": [{"type": "QuantileMap", "nuisance": names}], "into": "corrections"}, known=list(own)
    )
    block.fit(score, own, np.ones(20_000))
    mapped = apply(block, score, own)
    cuts = {r: float(np.quantile(mapped, r)) for r in (0.5, 0.99)}
    text = posthoc.corrections(block, cuts, names=names, about="made", reach=(-20, 20))
    import correctionlib

    made_of = correctionlib.CorrectionSet.from_string(text)["threshold"]
    for rejection, cut in cuts.items():
        found = made_of.evaluate(f"{rejection:g}", *(own[n] for n in names))
        # But for where the lines between the points of the grid differ from the map, the same events pass.
        assert ((score > found) != (mapped > cut)).mean() < 0.002
        assert (score > found).mean() == pytest.approx(1 - rejection, abs=0.002)
        ends = [np.array([f(own[n]) for f in (np.min, np.max)]) for n in names]
        far = [e + np.array([-99, 99]) for e in ends]
        np.testing.assert_allclose(
            made_of.evaluate(f"{rejection:g}", *far), made_of.evaluate(f"{rejection:g}", *ends)
        )


def test_a_transform_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from hepdecorr.learning.posthoc import Transform\n"
        "class Twice(Transform):\n"
        "    def __init__(self, nuisance):\n"
        "        super().__init__(nuisance)\n"
        "    def fit(self, background):\n"
        "        self.mean = background.z.mean()\n"
        "    def forward(self, score, z):\n"
        "        return 2 * score\n"
        "def no_transform(nuisance):\n"
        "    return nuisance\n"
    )
    block = Chain.read([{"type": "mine.py:Twice", "nuisance": "m"}], known=["m"], base=tmp_path)
    assert isinstance(block.transforms[0], Transform)
    np.testing.assert_array_equal(apply(block, np.ones(3), {"m": np.ones(3)}), [2, 2, 2])
    with pytest.raises(InputError, match="must derive from"):
        Chain.read([{"type": "mine.py:no_transform", "nuisance": "m"}], known=["m"], base=tmp_path)


def test_a_tagger_on_constituents(jet_table, tmp_path: Path) -> None:
    table = jet_table()
    spec = {
        "type": "Tagger",
        "network": {"type": "DeepSets"},
        "training": {"epochs": 1, "batch": 300},
        "posthoc": [{"type": "QuantileMap", "nuisance": "mass", "thresholds": 21}],
    }
    trained = train(spec, table=table, split=SPLIT, seed=1, device="cpu")
    about = {"nuisances": [Nuisance(name="mass", low=-3, high=3)], "rejections": (0.5,), "config_hash": ""}
    opened = OnnxTagger(finish(trained, name="jets", folder=tmp_path / "jets", table=table, **about))
    assert [i.name for i in opened.card.inputs] == ["features", "constituents", "mask", "nuisances"]
    b = trained.data.validation.all
    parts = trained.data.validation.form.unpack(b.x)
    given = {
        "features": parts.features.numpy(),
        "constituents": parts.constituents.numpy(),
        "mask": parts.mask.float().numpy(),
        "nuisances": b.z.numpy(),
    }
    with torch.no_grad():
        wanted = trained.posthoc(trained.method.logit(b.x), b.z).numpy()
    np.testing.assert_allclose(opened.logits(given), wanted, rtol=1e-4, atol=1e-4)
