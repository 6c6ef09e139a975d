"""JetVAE: its loss against the formula, what it learns, exports, excludes and refuses."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from hepdecorr import table as tables
from hepdecorr.card import METADATA_KEY, Card, Feature, Input, Nuisance
from hepdecorr.errors import InputError
from hepdecorr.learning import Data, Play, Player, export, finish, train, weights
from hepdecorr.learning.anomaly import SCORES
from hepdecorr.learning.methods import JetVAE
from hepdecorr.learning.methods.judging import auc

sys.path.insert(0, str(Path(__file__).parent))
from framed_jets import LENGTH, NAMES, columns, data

NET = {"type": "FullyConnected", "hidden": [32, 16]}
SHORT = {"epochs": 6, "batch": 100, "lr": 5e-3}


def made(**change: Any) -> JetVAE:
    torch.manual_seed(3)
    about = {"constituents": NAMES, "length": LENGTH, "nuisances": ["jet_mass"], "network": NET, "latents": 3}
    return JetVAE(**{**about, "training": SHORT, **change})


def learned(events: Data, *, play: Play | None = None, **change: Any) -> tuple[JetVAE, dict[str, Any]]:
    method, play = made(**change), play or Play(seed=5)
    method.learn(events, play)
    return method.eval(), play.history[0]


@pytest.fixture(scope="module")
def events() -> Data:
    return data()


@pytest.fixture(scope="module")
def plain(events: Data) -> tuple[JetVAE, dict[str, Any]]:
    return learned(events, beta=0.05)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_is_that_of_the_slides(events: Data, reduction: str) -> None:
    exposure = {"type": "KLOE", "margin": 9, "anneal": "constant"}
    method = made(beta=0.3, reduction=reduction, exposure=exposure)
    tried = []

    @torch.no_grad()
    def play(players: Any, given: Data, recipe: Any, **_: Any) -> dict[str, Any]:
        player: Player = players["vae"]
        b = given.train.all.take(slice(0, 200))
        b = b._replace(r=torch.linspace(0.2, 3, 200))  # as of a block `reweight`
        torch.manual_seed(1)
        seen = {k: float(v) for k, v in player.loss(b).items()}
        torch.manual_seed(1)
        own = b.take(b.y == 0)
        x, mask, _, good = method.framing.jets(own.x)
        assert torch.equal(own.w > 0, good)
        mean, log_var = method.vae.network.encode(x, mask)
        draw = mean + (log_var / 2).exp() * torch.randn_like(mean)
        share = own.w * own.r / (own.w * own.r).sum()
        missed = ((method.vae.network.decode(draw) - x) ** 2).flatten(1).sum(1) / (4 * LENGTH)
        normal = torch.distributions.Normal
        kl = torch.distributions.kl_divergence(normal(mean, (log_var / 2).exp()), normal(0.0, 1.0))
        reduced = kl.sum(1) if reduction == "sum" else kl.mean(1)
        wanted = {"mse": float((share * missed).sum()), "kl": float(0.3 * (share * reduced).sum())}
        other = b.take(b.y == 1)
        mean, log_var = method.vae.network.encode(*method.framing.jets(other.x)[:2])
        outside = torch.distributions.kl_divergence(normal(mean, (log_var / 2).exp()), normal(0.0, 1.0))
        weight = other.w * other.r / (other.w * other.r).sum()
        apart = (weight * outside.sum(1)).sum() - (share * kl.sum(1)).sum()
        wanted["kloe"] = 2 * max(0.0, 9 - float(apart))
        assert seen == pytest.approx(wanted, rel=1e-4)
        tried.append(reduction)
        return {"curves": {}}

    play.device, play.generator, play.passed = torch.device("cpu"), torch.Generator(), 0.5
    method.learn(events, play)  # type: ignore[arg-type]
    assert tried


def test_it_learns_background_and_tells_outliers(plain: Any, events: Data) -> None:
    method, history = plain
    curves = history["curves"]
    assert curves["valid/mse"][-1] < 0.9 * curves["valid/mse"][0]
    assert curves["valid/active"][-1] >= 1
    assert curves["valid/kl_nats"][-1] > 0.1
    assert set(curves) >= {f"valid/auc_{name}" for name in ("mse", "kl", "nll", "sumsq")}
    assert "valid/information/jet_mass" in curves
    b = events.validation.all
    good = b.take(method.framing.flat(b.x)[:, -1] > 0)
    with torch.no_grad():
        assert auc(method.logit(good.x), good) == pytest.approx(curves["valid/auc_mse"][-1], abs=1e-4)
        assert auc(method.logit(good.x), good) > 0.6
    assert history["measured"]["beta_of_elbo"] == pytest.approx(2 * LENGTH * 0.05 / 3)


def test_the_outputs_are_what_they_are_called(plain: Any, events: Data) -> None:
    method, _ = plain
    x = events.validation.all.x
    with torch.no_grad():
        logit, *further = method.answers(x)
        assert torch.allclose(method.logit(x), logit, atol=1e-5)
        told = dict(zip(method.beside, further, strict=True))
        framed, momenta = method.framing(x)
        mean, log_var = method.vae.network.encode(framed.x, framed.mask)
        decoded = method.vae.network.decode(mean)
    mse = (decoded - framed.x).square().mean((1, 2))
    kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)
    assert torch.allclose(told["mse"], mse, rtol=1e-4)
    assert torch.allclose(told["kl"], kl, rtol=1e-3, atol=1e-5)
    assert torch.allclose(told["nll"], mse + 0.05 * kl / 3, rtol=1e-4)
    assert torch.allclose(told["sumsq"], (framed.x**2).sum((1, 2)))
    assert torch.equal(told["means"], mean)
    assert torch.equal(told["input_momenta"], momenta)
    there = framed.mask[..., None]
    assert torch.allclose(told["output_momenta"], there * method.framing.frame.unscale(decoded), atol=1e-4)
    good = framed.good
    assert float(told["density"][good & (events.validation.all.y == 0)].mean()) < 6
    # The logit orders as the score does.
    assert torch.equal(logit[good].argsort(stable=True), told["mse"][good].argsort(stable=True))


def made_card(method: JetVAE) -> Card:
    features = tuple(Feature(name=name) for name in NAMES)
    inputs = [
        Input(name="constituents", features=features, length=LENGTH),
        Input(name="mask", features=(), length=LENGTH),
    ]
    if method.framing.names:
        inputs.insert(0, Input(features=(Feature(name="jet_mass"),)))
    outputs = ("score", "logit", *method.beside)
    empty = {"nuisances": (), "table_fingerprint": "", "config_hash": "", "versions": {}, "created": ""}
    return Card(name="vae", method={}, seed=1, inputs=tuple(inputs), outputs=outputs, **empty)


def test_the_graph_gives_all_of_it_for_any_jets(events: Data, tmp_path: Path) -> None:
    told = data(features=("jet_mass",))
    change = {"features": ["jet_mass"], "condition": ["jet_mass"], "score": "kl", "beta": 0.05}
    method, _ = learned(told, training={**SHORT, "epochs": 2}, **change)
    x = told.validation.all.x
    arrays = method.reveal(told.validation.all)
    folder = export(method, card=made_card(method), folder=tmp_path / "vae", sample=x, arrays=arrays)
    assert sorted(p.name for p in folder.iterdir()) == [
        "card.yaml",
        "generator.onnx",
        "latents.npz",
        "tagger.onnx",
        "weights.npz",
    ]
    session = onnxruntime.InferenceSession(folder / "tagger.onnx", providers=["CPUExecutionProvider"])
    form = told.train.form
    features, constituents, mask = form.unpack(x[:60])
    for length in (1, LENGTH, 13):
        seen = F.pad(constituents, (0, 0, 0, 20))[:, :length]
        there = F.pad(mask, (0, 20))[:, :length]
        feed = {"features": features, "constituents": torch.where(there[..., None], seen, torch.nan)}
        feed["mask"] = there.float()
        logit, *further = session.run(["logit", *method.beside], {k: v.numpy() for k, v in feed.items()})
        with torch.no_grad():
            known, *others = method.answers(form.pack(features, seen, there))
        np.testing.assert_allclose(logit, known, rtol=1e-4, atol=1e-4)
        for got, wanted in zip(further, others, strict=True):
            assert got.shape == wanted.shape
            assert np.isfinite(got).all()
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)
    # It was told the mass: another one is another answer.
    with torch.no_grad():
        assert not torch.allclose(method.logit(x), method.logit(torch.cat([x[:, :1] + 50, x[:, 1:]], 1)))
    with np.load(folder / "latents.npz", allow_pickle=False) as stored:
        background = int((told.validation.all.y == 0).sum())
        shapes = {name: stored[name].shape for name in stored.files}
    assert shapes == {"mean": (background, 3), "nuisance": (background, 1), "weight": (background,)} | {
        "kl": (3,), "mse": (), "nuisances": (1,),
    }  # fmt: skip


def test_background_alone_will_do() -> None:
    alone = data(share=0.0)
    method, history = learned(alone, score="density")
    assert not method.needs_signal
    assert not [name for name in history["curves"] if name.startswith("valid/auc")]
    assert history["measured"]["excluded"] == {"background": 20}
    with pytest.raises(InputError, match="exposure: an empty outlier set: no training event has label 1"):
        learned(alone, exposure={"type": "KLOE", "anneal": "constant"})
    assert made(exposure="KLOE").needs_signal


def test_jets_of_too_few_constituents_are_left_out_counted_and_scored(
    events: Data, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        method, history = learned(events, training={**SHORT, "epochs": 1})
    b = [events.train.all, events.validation.all]
    one = [(method.framing.form.unpack(each.x).mask.sum(1) < 2) for each in b]
    count = sum(int((each.y[bad] == 0).sum()) for each, bad in zip(b, one, strict=True))
    assert count > 3
    assert history["measured"]["excluded"]["background"] == count
    assert f"{count} of" in caplog.text
    assert "fewer than two constituents" in caplog.text
    with torch.no_grad():
        assert all(v.isfinite().all() for v in method.answers(b[0].x[one[0]]))
    # What they hold has no part in what is learnt.
    other = events.train.all.x.clone()
    width = len(NAMES) + 1
    alone = events.train.form.unpack(other).mask.sum(1) == 1
    assert alone.any()
    other[alone, 0] *= 3  # pt of the only constituent
    again = Data(events.train.seen_as(other, features=()), events.validation)
    again.train.form = events.train.form
    assert other.shape[1] == width * LENGTH
    twin, _ = learned(again, training={**SHORT, "epochs": 1})
    for key, value in method.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key


def test_exposure_of_the_latents_tells_outliers(events: Data, plain: Any) -> None:
    exposure = {"type": "KLOE", "margin": 3, "form": "latent", "anneal": "constant"}
    _, history = learned(events, beta=0.05, exposure=exposure, score="kl")
    before, after = (h["curves"]["valid/auc_kl"][-1] for h in (plain[1], history))
    assert before < 0.6
    assert after > 0.7
    assert history["curves"]["vae/kloe"][-1] < 0.7 * history["curves"]["vae/kloe"][0]


def test_exposure_of_the_reconstruction_drives_outliers_away(events: Data, plain: Any) -> None:
    anneal = {"rise": 1, "hold": 1}  # 0 -> 1, held, three times
    exposure = {"type": "MSEOE", "strength": 10, "anneal": anneal, "match": {"nuisance": "jet_mass"}}
    method, history = learned(events, beta=0.05, exposure=exposure)
    found = []
    for one in (plain[0], method):
        b = events.validation.all
        flat = one.framing.flat(b.x)
        good = flat[:, -1] > 0
        with torch.no_grad():
            mse = one.vae.tell(one.framing.jets(flat)).scores["mse"]
        found.append(float(mse[good & (b.y == 1)].mean() - mse[good & (b.y == 0)].mean()))
    assert found[1] > found[0] + 0.1
    curve = history["curves"]["vae/mseoe"]
    assert curve[1] < 1.5 * curve[0] < 0  # half of the weight, then all of it
    assert history["kept"] in (2, 4, 6)  # epochs at full weight


def test_terms_and_constraints_decorrelate_the_score(events: Data, plain: Any) -> None:
    term = {"type": "DisCo", "nuisance": "jet_mass", "strength": 100, "draw": 200, "start": 0.2}
    _, history = learned(events, beta=0.05, terms=[term], score="mse")
    free, bound = (h["curves"]["valid/information/jet_mass"][-1] for h in (plain[1], history))
    assert bound < 0.8 * free
    assert "vae/disco_jet_mass" in history["curves"]
    chased = {"type": "GMM", "nuisance": "jet_mass", "steps": 1, "batch": 100, "hidden": [8]}
    held = {**term, "hold": {"sample": 300}}
    _, history = learned(events, terms=[held, chased], score="nll", training={**SHORT, "epochs": 2})
    assert {"gmm_jet_mass/chase", "hold_disco_jet_mass/multiplier"} <= set(history["curves"])


def test_a_kl_that_vanishes_is_told(events: Data) -> None:
    training = {**SHORT, "lr": 1e-2}
    _, history = learned(events, beta=30.0, score="kl", training=training)
    assert history["curves"]["valid/active"][-1] == 0
    assert "the KL has vanished: no latent of 3" in history["reason"]
    assert learned(events, beta=30.0, score="mse", training=training)[1]["stable"]


def test_it_goes_on_from_a_trained_one(events: Data, plain: Any, tmp_path: Path) -> None:
    folder = tmp_path / "vae-5"
    folder.mkdir()
    (tmp_path / "{here}").symlink_to(tmp_path)  # braces of one's own are left alone
    np.savez(folder / "weights.npz", allow_pickle=False, **plain[0].weights())
    short = {**SHORT, "epochs": 1, "lr": 1e-9}
    tuned, history = learned(
        events, beta=0.05, start_from="vae-{seed}", base=tmp_path / "{here}", training=short,
        exposure={"type": "KLOE", "anneal": "constant"},
    )  # fmt: skip
    assert history["curves"]["valid/mse"][0] == pytest.approx(plain[1]["measured"]["mse"], rel=1e-3)
    assert torch.equal(tuned.framing.frame.spread, plain[0].framing.frame.spread)
    with pytest.raises(InputError, match=r"framing.frame.centre is of shape \(8, 4\), here it is \(6, 4\)"):
        learned(events, start_from="vae-5", base=tmp_path, frame={"length": 6})
    # Of the same shapes, and not what it has learnt.
    with pytest.raises(InputError, match=r"seen its jets with boost 'rest', here it is 'beam'; give both"):
        learned(events, start_from="vae-5", base=tmp_path, frame={"boost": "beam"})
    with pytest.raises(InputError, match="unlike the network here"):
        learned(events, start_from="vae-5", base=tmp_path, network={"type": "FullyConnected", "hidden": [32]})
    with pytest.raises(InputError, match=r"vae-6/weights\.npz: not there"):
        learned(events, start_from="vae-6/weights.npz", base=tmp_path)
    for content in (b"", b"no arrays", b"\x80\x04]."):
        (folder / "weights.npz").write_bytes(content)
        with pytest.raises(InputError, match="not readable as arrays"):
            weights.load(folder, plain[0]._parts(), about={})


def make_table(folder: Path, *, rows: int = 900, share: float = 0.3) -> tables.Table:
    found = columns(rows, seed=7, share=share)
    arrays = {"jet_mass": found["mass"].astype(np.float32), "label": found["label"].astype(np.int8)}
    arrays["constituents.count"] = found["there"].sum(1).astype(np.int16)
    arrays |= {f"constituents.{n}": found["seen"][..., k].astype(np.float32) for k, n in enumerate(NAMES)}
    arrays["event"] = np.arange(rows)
    arrays["fold"] = tables.fold(np.ones(rows), np.ones(rows), arrays["event"])
    roles = {"jet_mass": "nuisance", "label": "label", "constituents.count": "count"}
    described = [
        tables.Column(
            n, roles.get(n, "constituent" if "." in n else "id"), length=a.shape[1] if a.ndim > 1 else 0
        )
        for n, a in arrays.items()
    ]
    shards = []
    for k, part in enumerate(np.array_split(np.arange(rows), 3)):
        about = {"columns": described, "dataset": "jets", "source": "made.root", "start": k, "stop": k + 1}
        own = {n: a[part] for n, a in arrays.items()}
        shards.append(tables.write_shard(folder, f"{k}.parquet", arrays=own, **about))
    datasets = {"jets": {"label": 0, "use": "all"}}
    return tables.write_manifest(folder, shards, columns=described, datasets=datasets, provenance={})


SPLIT = tables.Split(10, (0, 1), (2,))
BLOCK = {"type": "JetVAE", "network": NET, "latents": 3, "features": [], "training": {**SHORT, "epochs": 2}}


@pytest.mark.parametrize("stream", [False, True])
def test_from_a_table_in_memory_or_streamed(tmp_path: Path, stream: bool) -> None:
    table = make_table(tmp_path)
    change = {"exposure": {"type": "KLOE", "anneal": "constant"}, "score": "kl"}
    change["reweight"] = {"nuisances": ["jet_mass"], "of": "signal", "to": "background", "bins": 5}
    trained = train({**BLOCK, **change}, table=table, split=SPLIT, seed=1, device="cpu", stream=stream)
    curves = trained.history[0]["curves"]
    assert curves["valid/mse"][1] < curves["valid/mse"][0]
    assert trained.history[0]["told"][0].startswith(
        "beta 0.1 with KL as mean over 3 latents is beta 0.5333 in"
    )


def test_a_tagger_of_background_alone_with_a_map_of_its_score(tmp_path: Path) -> None:
    table = make_table(tmp_path / "table", share=0.0)
    block = {**BLOCK, "posthoc": [{"type": "QuantileMap", "nuisance": "jet_mass", "bins": 4}]}
    trained = train(block, table=table, split=SPLIT, seed=1, device="cpu")
    about = {"table": table, "nuisances": [Nuisance(name="jet_mass", low=0, high=400)], "config_hash": ""}
    folder = finish(trained, name="vae", folder=tmp_path / "vae", rejections=[0.5], **about)
    session = onnxruntime.InferenceSession(folder / "tagger.onnx", providers=["CPUExecutionProvider"])
    card = Card.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY], source="vae")
    assert [i.name for i in session.get_inputs()] == ["constituents", "mask", "nuisances"]
    assert card.outputs == ("score", "logit", *trained.method.beside)
    assert card.working_points[0].signal_efficiency is None
    assert "validation_auc" not in card.measured
    assert card.measured["beta_of_elbo"] == pytest.approx(1.6 / 3)
    assert card.measured["excluded"]["background"] > 0
    with pytest.raises(InputError, match=r"no signal .* exposure an outlier set that is not empty"):
        train({**BLOCK, "exposure": "KLOE"}, table=table, split=SPLIT, seed=1, device="cpu")


SPEC = {"exposure": {"type": "MSEOE", "match": {"nuisance": "jet_mass"}, "anneal": {"rise": 1, "hold": 0}}}
SPEC |= {"training": {**SHORT, "epochs": 4, "average": 0.9}, "beta_anneal": {"shape": "linear", "rise": 1}}


def cut(folder: Path, *, kill_at: int = 0) -> tuple[dict[str, torch.Tensor], Any]:
    epochs = 0

    def progress(*_: object) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    method, history = learned(data(), play=Play(seed=5, folder=folder, progress=progress), **SPEC)
    return dict(method.state_dict()), history


def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, history = cut(tmp_path / "whole")
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path; "
    code += "import torch, test_jet_vae as t; torch.set_num_threads(1); "
    code += f"t.cut(Path({str(tmp_path)!r}), kill_at=2)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again, resumed = cut(tmp_path)
    assert resumed == history
    assert all(torch.equal(value, again[key]) for key, value in whole.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0}, "beta is 0 and must be above 0"),
        ({"reduction": "max"}, "reduction: no 'max'"),
        ({"score": "emd"}, "no score 'emd'"),
        ({"constituents": []}, "JetVAE works on constituents"),
        ({"features": ["jet_mass"]}, r"write 'features: \[\]' in its block"),
        ({"condition": ["jet_mas"], "features": ["jet_mass"]}, "no feature 'jet_mas'; did you mean"),
        ({"network": "FullyConected"}, "did you mean 'FullyConnected'"),
        ({"exposure": {"type": "KLOE", "margins": 1}}, "KLOE takes no 'margins'"),
        ({"exposure": 3}, "exposure must be as"),
        ({"exposure": {"type": "KLOE", "margin": "much"}}, "a value is of the wrong type"),
        ({"score": "density", "terms": [{"type": "DisCo", "nuisance": "jet_mass"}]}, "cannot be moved by"),
        ({"terms": [{"type": "MoDe", "nuisance": "jet_mass", "given": "all"}]}, "look at background alone"),
        ({"density": {"components": 0}}, "components must be at least 1"),
        ({"beta": "much"}, "beta must be a number, not 'much'"),
        ({"weigh": -1}, "weigh is -1; it must be finite"),
        ({"latents": 2.5}, "latents must be a whole number of at least 1, not 2.5"),
        ({"network": ["FullyConnected"]}, "network must be as {type: FullyConnected}"),
        ({"network": {"hidden": [3]}}, "network must be as {type: FullyConnected}"),
        ({"network": {"type": "FullyConnected", "hidden": [8, -1]}}, r"above 0, not \[8, -1\]"),
        ({"frame": [20]}, "frame must be as {length: 20"),
        ({"frame": {"length": 60}}, "frame: length 60 exceeds the"),
        ({"frame": {"length": 2.5}}, "frame: length 2.5; it is a whole number"),
        ({"frame": {"rotate": "maybe"}}, "rotate is true or false, not 'maybe'"),
        ({"condition": 3}, "condition must name features of a row"),
        ({"inputs": {"scale": "robust"}}, "inputs: they scale what 'condition' names"),
        ({"reconstruct": "maybe"}, "reconstruct is true or false"),
        ({"score": ["kl", "mse"]}, r"no score \['kl', 'mse'\]"),
    ],
)  # fmt: skip
def test_faults_in_the_yaml_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(**change)


def test_a_stage_too_short_for_its_annealing(events: Data) -> None:
    with pytest.raises(
        InputError,
        match="exposure: kloe: anneal: it is full for good after 25 epochs and the stage has 6 epochs",
    ):
        learned(events, exposure="KLOE")


def test_every_score_can_be_the_logit(events: Data) -> None:
    for score in SCORES:
        method, _ = learned(events, score=score, training={**SHORT, "epochs": 1}, reconstruct=False)
        assert method.beside == (*SCORES, "means")
        b = events.validation.all
        with torch.no_grad():
            logit = method.logit(b.x)
            own = (method.framing.flat(b.x)[:, -1] > 0) & (b.y == 0)
        assert float(logit[own].mean()) == pytest.approx(0, abs=0.02)
        assert float(logit[own].std()) == pytest.approx(1, abs=0.02)


def test_devices_and_precision(events: Data) -> None:
    """Within `meta` a tensor made without saying where has no data; in bfloat16 sums stay float32."""
    method, _ = learned(
        events, exposure={"type": "KLOE", "anneal": "constant"}, training={**SHORT, "epochs": 1}
    )
    b = events.validation.all
    seen: list[dict[str, torch.Tensor]] = []

    @torch.no_grad()
    def play(players: Any, given: Data, recipe: Any, **_: Any) -> dict[str, Any]:
        own = given.train.all.take(slice(0, 300))
        for elsewhere in (False, True):
            torch.manual_seed(1)
            with torch.device("meta" if elsewhere else "cpu"):
                seen.append(players["vae"].loss(own))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.manual_seed(1)
            seen.append(players["vae"].loss(own))
        return {"curves": {}}

    play.device, play.generator, play.passed, play.turn = torch.device("cpu"), torch.Generator(), 1.0, 0
    method.learn(events, play)  # type: ignore[arg-type]
    first, elsewhere, half = seen
    assert {k: float(v) for k, v in first.items()} == {k: float(v) for k, v in elsewhere.items()}
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert float(value) == pytest.approx(float(first[name]), rel=0.05, abs=0.02)
    assert len(b.y)
