"""The section on representations: gaps, matrix, interventions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from hepdecorr.errors import InputError
from hepdecorr.validation import plots
from hepdecorr.validation.latents import Latents
from hepdecorr.validation.report import ReportInput, report


def made(seed: int) -> Latents:
    """Latent 1 is the nuisance, latent 0 knows a little of it; moving 1 moves p_star_b."""
    random = np.random.default_rng(seed)
    v = random.normal(size=4000)
    mean = np.stack([0.5 * v + random.normal(size=4000), v, random.normal(size=4000)], 1)
    change = np.zeros((1, 2, 3))
    change[0, :, 1] = [1.5, -1.5]
    arrays = {
        "mean": mean.astype(np.float32),
        "nuisance": v[:, None].astype(np.float32),
        "weight": np.ones(4000, dtype=np.float32),
        "keep": np.array([1, 0, 1.0]),
        "nuisances": np.array(["m_bc"]),
        "moved": np.array([1]),
        "shifts": np.array([-1.0, 1.0]),
        "change": change,
        "change_error": np.full_like(change, 0.01),
        "change_raw": 0.1 * change,
        "observed": np.where(np.arange(3) == 2, np.nan, change),
        "observed_error": np.full_like(change, 0.02),
    }
    return Latents.of(arrays, features=["r2", "p_star_b", "delta_e"])


def test_the_gap_is_that_of_made_latents() -> None:
    """I(z_0; v) of correlation 0.447 is -ln(1 - 0.2)/2 = 0.112 nats; v tells ln 20 of itself in 20 bins."""
    gap = made(1).gap
    assert gap.information[1, 0] == pytest.approx(np.log(20), abs=0.05)
    assert gap.information[0, 0] == pytest.approx(0.112, abs=0.03)
    assert gap.information[2, 0] == pytest.approx(0, abs=0.02)
    assert gap.mig.value == pytest.approx(1 - 0.112 / np.log(20), abs=0.02)
    assert gap.mig.low < gap.mig.value < gap.mig.high


def test_the_report_shows_what_latents_know_and_do(tmp_path, taggers) -> None:
    latents = {"flat": [made(1), made(2)]}
    path = report(tmp_path, ReportInput(name="latents", taggers={"flat": taggers["flat"]}, latents=latents))
    text = path.read_text(encoding="utf-8")
    assert "Representations" in text
    assert "flat: latent 1 moved, which stands for m_bc" in text
    assert "-1.500" in text
    assert "-0.15" in text
    names = {one.name for one in (tmp_path / "figures").iterdir()}
    assert {"information.pdf", "intervention_flat_m_bc.png"} <= names
    found = json.loads((tmp_path / "metrics.json").read_text())["latents"]["flat"]
    assert len(found) == 2
    assert found[0]["cut"] == [1]
    assert found[0]["mig"]["mig"]["value"] == made(1).gap.mig.value
    assert found[0]["intervention"]["change"][0][1] == [0.0, -1.5, 0.0]
    assert found[0]["intervention"]["observed"][0][1][2] is None


def of_jets(seed: int = 3, *, vanished: bool = False) -> Latents:
    """Without a decoder on features: latent 0 rises with the mass, 1 tells nothing, 2 has vanished."""
    random = np.random.default_rng(seed)
    mass = random.exponential(50.0, 3000)
    mean = np.stack([np.log(mass) + random.normal(size=3000), 0.01 * random.normal(size=3000)], 1)
    mean = np.column_stack([0 * mean[:, :1] if vanished else mean[:, :1], mean[:, 1], np.zeros(3000)])
    arrays = {"mean": mean, "nuisance": mass[:, None], "weight": np.ones(3000), "nuisances": np.array(["m"])}
    arrays |= {"kl": np.array([0.0 if vanished else 1.4, 0.002, 0.0]), "mse": np.array(0.21), "more": mass}
    return Latents.of(arrays, features=[])


def test_latents_without_a_decoder_on_features(tmp_path, taggers) -> None:
    """What a method cannot tell is left out; ranks see the exponential's logarithm as itself."""
    one = of_jets()
    assert one.move(0) is None
    assert one.active == 1
    first, second, third = one.known["m"]
    assert first.value == pytest.approx(spearmanr(one.mean[:, 0], one.nuisance[:, 0])[0], abs=1e-9)
    assert abs(second.value) < 4 * second.std
    assert third is None
    latents = {"vae": [one, of_jets(4)]}
    path = report(tmp_path, ReportInput(name="jets", taggers={"vae": taggers["flat"]}, latents=latents))
    text = path.read_text(encoding="utf-8")
    assert "vae: means of the latents against m" in text
    assert "1 of 3; 1 of 3" in text
    assert "latent 0 moved" not in text
    found = json.loads((tmp_path / "metrics.json").read_text())["latents"]["vae"][0]
    assert (found["kl"], found["mse"], found["intervention"]) == ([1.4, 0.002, 0.0], 0.21, None)
    assert found["rank_correlation"]["m"][0]["value"] == first.value
    assert found["rank_correlation"]["m"][2] is None


def test_the_panels_of_latents_say_what_they_know() -> None:
    one = of_jets()
    of = {"weight": one.weight, "correlations": one.known["m"], "kl": one.kl, "nuisance": "Mass"}
    drawn = plots.latents_against(one.mean, one.nuisance[:, 0], unit="GeV", **of)
    titles = [ax.get_title(loc="left") for ax in drawn.axes]
    assert f"{one.known['m'][0].value:+.3f}" in titles[0]
    assert "KL 1.40" in titles[0]
    assert drawn.axes[0].get_xlabel() == "Mass [GeV]"
    assert "constant" in [text.get_text() for text in drawn.axes[2].texts]


def test_figures_show_what_was_cut_and_moved() -> None:
    one = made(1)
    shown = {"a": plots.Information(one.gap.information, one.nuisances, one.keep > 0)}
    drawn = plots.information(shown)
    framed = [p for p in drawn.axes[0].patches if not p.get_fill()]
    assert [p.get_x() for p in framed] == [0.5]
    drawn = plots.intervention(one.move(0), nuisance="m_bc", most=2)
    labels = [t.get_text() for t in drawn.axes[0].get_yticklabels()]
    assert labels[-1] == "p_star_b"
    assert len(labels) == 2
    with pytest.raises(InputError, match="no tagger with latents"):
        plots.information({})
