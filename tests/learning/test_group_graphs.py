"""A method that learns from groups leaves three graphs, and all that is fixed on codes is on those of use."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from hepdecorr.card import Card, Feature, Input, Nuisance
from hepdecorr.catalogue import load_file
from hepdecorr.columnar.groups import Pooling
from hepdecorr.errors import InputError
from hepdecorr.learning import Layout, finish, fitting, train
from hepdecorr.learning.coding import Codes
from hepdecorr.learning.export import export
from hepdecorr.learning.grouping import Posterior
from hepdecorr.learning.posthoc import fitted
from hepdecorr.table import Selection, Split

SPLIT = Split(10, (0, 1), (2,))
OWN = Path(__file__).with_name("linear_groups.py")
FEATURES = ["leaky", "clean", "noise"]
SPEC = {"type": f"{OWN.name}:LinearGroups"}
MASS = Nuisance(name="mass", low=-3, high=3)


def made_groups(rows: int, *, seed: int = 3) -> np.ndarray:
    """Ids of 60 groups, with gaps, above what a float32 holds, in no order."""
    return np.random.default_rng(seed).integers(0, 60, rows) * 1_000_003 + 2**40


def card(**changed: object) -> Card:
    codes = Input(
        name="context", axes=("events", "codes"), features=(Feature(name="code_0"), Feature(name="code_1"))
    )
    content = {
        "name": "made",
        "method": {},
        "seed": 1,
        "inputs": (Input(features=tuple(Feature(name=n) for n in FEATURES)), codes),
        "outputs": ("score", "logit", "distance", "instance"),
        "nuisances": (),
        "table_fingerprint": "",
        "config_hash": "",
        "versions": {},
        "created": "",
    }
    return Card.model_validate(content | changed)


@pytest.fixture(scope="module")
def own():
    return load_file(OWN)


@pytest.fixture(scope="module")
def sample() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(300, 3, generator=draw), torch.from_numpy(made_groups(300))


@pytest.fixture(scope="module")
def exported(own, sample, tmp_path_factory: pytest.TempPathFactory):
    method = own.LinearGroups(features=FEATURES)
    folder = tmp_path_factory.mktemp("models") / "made"
    export(method, card=card(), folder=folder, sample=sample[0], group=sample[1], of=["run"])
    return method, folder


def opened(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


def test_the_card_says_how_codes_come_from_events(exported) -> None:
    _, folder = exported
    session = opened(folder / "tagger.onnx")
    found = Card.from_json(session.get_modelmeta().custom_metadata_map["hepdecorr.card"], source="x")
    assert found.context is not None
    assert (found.context.of, found.context.latents, found.context.summands) == (("run",), 2, 2)
    for file, digest in (("members.onnx", found.context.members), ("group.onnx", found.context.group)):
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest
    assert [i.name for i in session.get_inputs()] == ["features", "context"]
    assert "members:" in (folder / "card.yaml").read_text()


@pytest.mark.parametrize("rows", [1, 2, 7, 300])
def test_graphs_take_any_number_of_events_and_groups(exported, sample, rows: int) -> None:
    _, folder = exported
    x, numbers = sample[0][:rows].numpy(), np.unique(sample[1][:rows].numpy(), return_inverse=True)[1]
    (summands,) = opened(folder / "members.onnx").run(["summands"], {"features": x})
    counts = np.bincount(numbers).astype(np.float32)
    sums = np.stack([np.bincount(numbers, weights=column) for column in summands.T.astype(float)], 1)
    given = {"sums": sums.astype(np.float32), "counts": counts}
    mean, log_var = opened(folder / "group.onnx").run(["mean", "log_var"], given)
    means = np.stack([[x[numbers == k, j].mean() for j in (0, 1)] for k in range(len(counts))])
    np.testing.assert_allclose(mean, means, atol=1e-6)
    np.testing.assert_allclose(log_var, -np.log(np.stack([counts, counts], 1)), atol=1e-6)
    given = {"features": x, "context": mean[numbers]}
    logit, distance, instance = opened(folder / "tagger.onnx").run(["logit", "distance", "instance"], given)
    off = x[:, :2] - means[numbers]
    np.testing.assert_allclose(logit, off @ [0.5, 1.0] - 0.2 * x[:, 2], atol=1e-5)
    np.testing.assert_allclose(instance, off, atol=1e-5)
    np.testing.assert_allclose(distance, (off**2).sum(1), atol=1e-4)


def test_a_method_that_does_not_keep_to_it_is_told(own, sample, tmp_path: Path) -> None:
    class NoGrouping(own.LinearGroups):
        def grouping(self):
            return None

    class OtherRows(own.LinearGroups):
        def rows(self, b):
            return torch.cat([b.x, torch.zeros(len(b.x), 2)], 1)

    class Labelled(own.LinearGroups):
        def rows(self, b):
            return super().rows(b) + b.y[:, None] + 1

    class Narrow(own.MeanOfFeatures):
        def pool(self, sums, counts):
            found = super().pool(sums, counts)
            return Posterior(found.mean[:, :1], found.log_var[:, :1])

    class Mixed(own.MeanOfFeatures):
        def members(self, x):
            return super().members(x) - x[:, :2].mean(0)

    class Other(own.LinearGroups):
        kind = Narrow

        def grouping(self):
            return self.kind(self.sizes)

    class OtherMixed(Other):
        kind = Mixed

    common = {"sample": sample[0], "group": sample[1], "of": ["run"], "folder": tmp_path / "x"}
    for method, message in [
        (NoGrouping, r"with a context of 2 must say in grouping\(\)"),
        (OtherRows, r"rows\(batch\) and codes from sums differ by"),
        (Labelled, r"rows\(batch\) and codes from sums differ by"),
        (Other, r"pool\(sums, counts\) gives a mean of shape \(\d+, 1\) for \d+ groups"),
        (OtherMixed, r"members\(x\) of one row and of many differ by"),
    ]:
        with pytest.raises(InputError, match=message):
            export(method(features=FEATURES), card=card(), **common)
        assert not (tmp_path / "x").exists()


def test_codes_come_from_features_alone(own, tmp_path: Path) -> None:
    seen = [
        {
            "name": "constituents",
            "axes": ("events", "constituents", "features"),
            "features": [{"name": "pt"}],
        },
        {"name": "mask", "axes": ("events", "constituents"), "features": []},
    ]
    inputs = [card().inputs[0].model_dump(), *({**one, "length": 2} for one in seen)]
    rows = torch.ones(4, 3 + 2 * 2)
    with pytest.raises(InputError, match="codes of groups come from features alone; write 'constituents: "):
        export(
            own.LinearGroups(features=FEATURES), card=card(inputs=inputs), folder=tmp_path / "x", sample=rows
        )


# ---- from a table


@pytest.fixture
def grouped(make_table):
    """A table with groups, and the method trained on it."""

    def make(**block: object):
        table = make_table(group=made_groups(2400))
        trained = train({**SPEC, **block}, table=table, split=SPLIT, seed=1, device="cpu", base=OWN.parent)
        return table, trained

    return make


def known_logits(table, part: str) -> dict[str, np.ndarray]:
    """Logits of a part of the table by plain arithmetic, with the means of whole groups of that part."""
    names = [*FEATURES, "mass", "label", "group", "weight"]
    rows = table.read(names, select=Selection(part, SPLIT))
    x = np.stack([rows[name] for name in FEATURES], 1).astype(float)
    numbers = np.unique(rows["group"], return_inverse=True)[1]
    means = np.stack([np.bincount(numbers, weights=x[:, k]) for k in (0, 1)], 1)
    means /= np.bincount(numbers)[:, None]
    off = x[:, :2] - means[numbers]
    return rows | {"logit": off @ [0.5, 1.0] - 0.2 * x[:, 2], "distance": (off**2).sum(1)}


def test_working_points_are_fixed_with_codes_of_whole_groups(grouped, tmp_path: Path) -> None:
    table, trained = grouped()
    options = {"table": table, "nuisances": [MASS], "config_hash": "", "rejections": (0.5, 0.9)}
    folder = finish(trained, name="made", folder=tmp_path / "made", **options)
    known = known_logits(table, "validation")
    found = Card.from_json(
        opened(folder / "tagger.onnx").get_modelmeta().custom_metadata_map["hepdecorr.card"], source="x"
    )
    background = known["label"] == 0
    assert [p.rejection for p in found.working_points] == [0.5, 0.9]
    for points, score in ((found.working_points, "logit"), (found.further_points["distance"], "distance")):
        for p in points:
            passed = known[score] > p.threshold
            assert passed[background].mean() == pytest.approx(1 - p.rejection, abs=2 / background.sum())
            assert passed[~background].mean() == pytest.approx(p.signal_efficiency, abs=2 / background.sum())
    counts = np.unique(table.read(["group"], select=Selection("train", SPLIT))["group"], return_counts=True)[
        1
    ]
    assert found.context is not None
    assert found.context.of == ("group",)
    assert (found.context.counts[0], found.context.counts[2]) == (counts.min(), counts.max())


def test_transforms_are_fitted_with_codes_of_whole_groups(
    grouped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, trained = grouped(posthoc=[{"type": "DDT", "nuisance": "mass"}])
    layout = trained.layout
    for part in ("train", "validation"):
        known = known_logits(table, part)
        select = Selection(part, SPLIT, label=0)
        found = fitted.scored(trained.method, table, layout, select=select, names=["mass"])
        # Of background alone, and told what signal says of the groups.
        background = known["label"] == 0
        np.testing.assert_allclose(found["logit"], known["logit"][background], atol=1e-5)
        np.testing.assert_array_equal(found["mass"], known["mass"][background])
    told: dict = {}
    monkeypatch.setattr(fitting, "export", lambda method, **given: told.update(given) or given["folder"])
    finish(
        trained,
        name="made",
        folder=tmp_path,
        table=table,
        nuisances=[MASS],
        config_hash="",
        rejections=(0.9,),
    )
    assert [i.name for i in told["card"].inputs] == ["features", "context", "nuisances"]
    known = known_logits(table, "validation")
    tensors = torch.from_numpy(known["logit"]).float(), torch.from_numpy(known["mass"])[:, None]
    passed = trained.posthoc(*tensors).numpy() > told["card"].working_points[0].threshold
    background = known["label"] == 0
    assert passed[background].mean() == pytest.approx(0.1, abs=2 / background.sum())


def test_codes_do_not_depend_on_shards_or_order(own, grouped) -> None:
    table, trained = grouped()
    select, layout = Selection("train", SPLIT), trained.layout
    found = Codes.of_table(trained.method, table, layout, select=select)
    turned = replace(table, shards=table.shards[::-1])
    other = Codes.of_table(trained.method, turned, layout, select=select)
    data = trained.data.train.all
    at_once = Codes.of(trained.method, data.x, data.group)
    np.testing.assert_array_equal(found.ids, np.unique(table.read(["group"], select=select)["group"]))
    for codes in (other, at_once):
        assert torch.equal(found.mean, codes.mean)
    plain = Layout.of(table)
    with pytest.raises(InputError, match="no column of groups"):
        Codes.of_table(trained.method, table, replace(plain, group=None), select=select)


def test_both_halves_find_the_same_codes(exported, sample) -> None:
    method, folder = exported
    text = opened(folder / "tagger.onnx").get_modelmeta().custom_metadata_map["hepdecorr.card"]
    pooling = Pooling(folder, Card.from_json(text, source="x"), sha256="0", batch_size=64)
    codes = pooling.pool(pooling.summed(sample[0].numpy(), sample[1].numpy()))
    np.testing.assert_array_equal(codes.mean, Codes.of(method, *sample).mean.numpy())
