"""What a tagger gives beside its score: arrays of any shape, other scores, the distance of two jets."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
import pytest

from hepdecorr.catalogue import load_file
from hepdecorr.columnar import objects
from hepdecorr.columnar.tagger import OnnxTagger
from hepdecorr.emd import emd
from hepdecorr.errors import InputError

SPEC = {"collection": "FatJet", "puppi": "auto"}
POINT = {"rejection": 0.5, "background_efficiency": 0.5, "signal_efficiency": 0.5, "background_events": 1000}


@pytest.fixture(scope="module")
def taggers() -> ModuleType:
    return load_file(Path(__file__).with_name("making_taggers.py"))


def autoencoder(taggers: ModuleType, **changed: Any) -> OnnxTagger:
    points = {name: [{**POINT, "threshold": cut}] for name, cut in (("kl", 5.5), ("emd", 1.2))}
    card = taggers.card(outputs=taggers.OUTPUTS, **{"further_points": points, **changed})
    return OnnxTagger(taggers.model(of=card), batch_size=50)


@pytest.fixture(scope="module")
def vae(taggers: ModuleType) -> OnnxTagger:
    return autoencoder(taggers)


@pytest.fixture
def raw(files: dict[str, Path], opened: Any) -> Any:
    return opened(files["pfnano_raw"])


@pytest.mark.parametrize("mode", ["virtual", "eager"])
def test_outputs_of_any_shape_go_with_the_jets(
    vae: OnnxTagger, files: dict[str, Path], opened: Any, mode: str
) -> None:
    events = opened(files["pfnano_raw"], mode=mode)
    names = ["kl", "means", "output_momenta", "logit", "emd"]
    found = vae.outputs(events, names)
    assert list(found) == names
    counts = ak.num(events["FatJet"]).tolist()
    assert 0 in counts
    rows = objects.rows(events, SPEC)
    arrays = vae.outputs(vae.inputs(rows), names)
    for name, shape in (
        ("kl", ()),
        ("means", (16,)),
        ("output_momenta", (20, 4)),
        ("logit", ()),
        ("emd", ()),
    ):
        assert ak.num(found[name]).tolist() == counts
        flat = ak.to_numpy(ak.flatten(found[name]))
        assert flat.shape == (len(rows), *shape)
        assert flat.dtype == np.float32
        np.testing.assert_allclose(arrays[name], flat, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(ak.to_numpy(vae.outputs(rows, [name])[name]), flat)
    np.testing.assert_array_equal(ak.flatten(found["logit"]), ak.flatten(vae.logit(events)))
    np.testing.assert_allclose(
        ak.flatten(found["kl"]), np.abs(ak.to_numpy(ak.flatten(vae.logit(events)))), rtol=1e-6
    )


def test_what_comes_out_is_what_went_in_turned(vae: OnnxTagger, raw: Any, taggers: ModuleType) -> None:
    """Momenta of each jet against its inputs, so that no jet gets the momenta of another."""
    import onnx
    from onnx import numpy_helper

    rows = objects.rows(raw, SPEC)
    given = vae.inputs(rows)
    clean = given["constituents"] * given["mask"][:, :, None]
    graph = onnx.load_from_string(vae.graph.payload).graph
    turn = next(numpy_helper.to_array(i) for i in graph.initializer if i.name == "turn")
    found = vae.outputs(rows, ["output_momenta", "input_momenta"])
    np.testing.assert_allclose(ak.to_numpy(found["input_momenta"]), clean, atol=1e-6)
    np.testing.assert_allclose(ak.to_numpy(found["output_momenta"]), clean @ turn, atol=1e-5)


@pytest.mark.parametrize(("boost", "ground"), [("rest", "sphere"), ("beam", "plane"), (None, "sphere")])
def test_the_distance_is_that_of_the_frame(
    taggers: ModuleType, raw: Any, boost: str | None, ground: str
) -> None:
    frame = {"length": 20} | ({"boost": boost} if boost else {})
    vae = autoencoder(taggers, method={"type": "JetVAE", "frame": frame})
    momenta = vae.outputs(raw, ["input_momenta", "output_momenta"]).values()
    first, second = (ak.to_numpy(ak.flatten(one)) for one in momenta)
    known = {name: emd(first, second, ground=name) for name in ("plane", "sphere")}
    assert np.abs(known["plane"] - known["sphere"]).min() > 1e-4
    for score, value in (("emd", known[ground]), *((f"emd_{k}", v) for k, v in known.items())):
        np.testing.assert_allclose(ak.to_numpy(ak.flatten(vae.further(raw, score))), value, rtol=1e-6)


def test_further_scores_and_their_cuts(vae: OnnxTagger, raw: Any) -> None:
    assert vae.further_scores == ["kl", "emd", "emd_plane", "emd_sphere"]
    for score, cut in (("kl", 5.5), ("emd", 1.2)):
        found = ak.flatten(vae.further(raw, score))
        passed = ak.flatten(vae.passes(raw, rejection=0.5, score=score))
        np.testing.assert_array_equal(passed, found > np.float32(cut))
        assert 0 < ak.sum(passed) < len(passed)
    with pytest.raises(InputError, match=r"no working points of a score 'emd_plane'.*kl"):
        vae.passes(raw, score="emd_plane")


def test_no_jets_have_no_outputs(vae: OnnxTagger, raw: Any) -> None:
    names = ["kl", "means", "output_momenta", "emd"]
    rows = objects.rows(raw, SPEC)[:0]
    for found in (vae.outputs(rows, names), vae.outputs(vae.inputs(rows), names)):
        shapes = [(0,), (0, 16), (0, 20, 4), (0,)]
        assert [ak.to_numpy(found[name]).shape for name in names] == shapes
    none = vae.outputs(raw[ak.num(raw["FatJet"]) == 0], names)
    assert all(len(one) > 1 and not ak.any(ak.num(one)) for one in none.values())
    assert all(len(one) == 0 for one in vae.outputs(raw[:0], names).values())


def test_what_there_is_not(vae: OnnxTagger, taggers: ModuleType, raw: Any) -> None:
    with pytest.raises(InputError, match=r"toy: .*has no output 'logits'; did you mean 'logit'"):
        vae.outputs(raw, ["logits"])
    with pytest.raises(InputError, match="toy has no score 'means'"):
        vae.further(raw, "means")
    plain = OnnxTagger(taggers.model())
    assert plain.further_scores == []
    with pytest.raises(InputError, match="toy has no score 'emd'; it has none"):
        plain.further(raw, "emd")
    with pytest.raises(InputError, match="has no output 'emd'"):
        plain.outputs(raw, ["emd"])
