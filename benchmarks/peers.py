"""hep_ml, modeloss and pythae against the taggers of bsgamma.yaml: same events, same split, same ruler.

    pip install -c constraints.txt hep_ml modeloss pythae       (0.8.0, 0.1.0 and 0.1.2)
    python benchmarks/peers.py --data FOLDER         or        --table FOLDER

DATA holds bsgamma_{signal,continuum}_{train,test}.root (see sculpting.py), TABLE a training table of such
files.  All learn from the same --train events, drawn from the train files by a seed, of which those that
choose epochs use a tenth for it; all are judged on the test files by `evaluate`.  Boosted trees stand at the
settings of hep_ml's notebook.  modeloss has the network, inputs and optimiser of our DisCo.  pythae's VAEs
have the layers, the latents and the inputs of our representation; what they learn is classified as ours is,
without the latents that know M_bc by 0.05 nats or more.  They learn from batches of 256: BetaTCVAE would take
seconds for a step at our 2048.  A peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hepdecorr.config import load
from hepdecorr.learning import Data, Events, Play, logits, train
from hepdecorr.learning.methods import Tagger
from hepdecorr.learning.moves import Moves
from hepdecorr.learning.networks import layers
from hepdecorr.learning.networks.inputs import read_inputs
from hepdecorr.learning.terms.entropy import mutual_information
from hepdecorr.table import Selection, Split, Table, write_manifest, write_shard
from hepdecorr.validation.measures import Evaluation, evaluate

CONFIG = Path(__file__).parents[1] / "analysis_configs" / "bsgamma.yaml"
NUISANCE = "m_bc"
PACKAGES = {"hep_ml": "hep_ml", "modeloss": "modeloss", "pythae": "pythae"}


class Part(NamedTuple):
    """Features (n, f), labels (n,), nuisance (n,)."""

    x: Tensor
    y: Tensor
    z: Tensor

    def take(self, index: Any) -> Part:
        return Part(*(t[index] for t in self))

    def events(self) -> Events:
        return Events(self.x, self.y, self.z[:, None], nuisances=[NUISANCE])


class Sample(NamedTuple):
    """What all see."""

    table: Table  # of training and validation events
    split: Split
    train: Part
    validation: Part
    test: Part
    features: list[str]
    inputs: Mapping[str, Any]  # logarithms of long tails, as in the config

    @property
    def learning(self) -> Part:
        """Training and validation events, for those that choose no epoch."""
        return Part(*(torch.cat(both) for both in zip(self.train, self.validation, strict=True)))


Scoring = Callable[[Sample, int], NDArray[Any]]  # sample, seed -> logits of the test events


def sampled(full: Table, *, rows: int, split: Split, inputs: Mapping[str, Any], folder: Path) -> Sample:
    """So many training events as a table of their own, and all test events."""
    arrays = {"train": full.read(select=Selection("train", split))}
    arrays["validation"] = full.read(select=Selection("validation", split))
    random = np.random.default_rng(1)
    for use, wanted in (("train", rows - rows // 10), ("validation", rows // 10)):
        chosen = np.sort(random.permutation(len(arrays[use]["label"]))[:wanted])
        arrays[use] = {name: values[chosen] for name, values in arrays[use].items()}
    joined = {n: np.concatenate([arrays[p][n] for p in arrays]) for n in arrays["train"]}
    shard = write_shard(
        folder, "events.parquet", arrays=joined, columns=full.columns,
        dataset="events", source="", start=0, stop=len(joined["label"]),
    )  # fmt: skip
    table = write_manifest(
        folder, [shard], columns=full.columns, datasets={"events": {"use": "train"}}, provenance={}
    )
    features = full.names("feature")
    arrays["test"] = full.read([*features, NUISANCE, "label"], select=Selection("test", split))

    def part(name: str) -> Part:
        held = arrays[name]
        x = np.stack([held[f] for f in features], 1).astype(np.float32)
        return Part(*(torch.as_tensor(a.astype(np.float32)) for a in (x, held["label"], held[NUISANCE])))

    return Sample(table, split, part("train"), part("validation"), part("test"), features, inputs)


def ours(spec: Mapping[str, Any], sample: Sample, seed: int) -> NDArray[Any]:
    """A tagger of the config."""
    block = {k: v for k, v in spec.items() if k not in ("title", "description", "seeds")}
    trained = train(
        block, table=sample.table, split=sample.split, seed=seed, device="cpu", base=CONFIG.parent
    )
    return logits(trained.method, sample.test.x)


def _frame(part: Part, features: list[str]) -> Any:
    from pandas import DataFrame

    return DataFrame(np.column_stack([part.x, part.z]), columns=[*features, NUISANCE])


def boosted(flatness: float, sample: Sample, seed: int) -> NDArray[Any]:
    """hep_ml's gradient boosting, with its flatness loss in bins of M_bc."""
    from hep_ml import gradientboosting, losses

    loss = losses.LogLossFunction()
    if flatness:
        loss = losses.BinFlatnessLossFunction([NUISANCE], uniform_label=0, n_bins=15, fl_coefficient=flatness)
    model = gradientboosting.UGradientBoostingClassifier(
        loss=loss, max_depth=6, n_estimators=50, learning_rate=0.2, subsample=0.4,
        train_features=sample.features, random_state=seed,
    )  # fmt: skip
    model.fit(_frame(sample.learning, sample.features), sample.learning.y.numpy().astype(int))
    return np.asarray(model.decision_function(_frame(sample.test, sample.features)))


def uboost(sample: Sample, seed: int) -> NDArray[Any]:
    """hep_ml's uBoost, at fewer efficiencies than in its notebook."""
    from hep_ml.uboost import uBoostClassifier
    from sklearn.tree import DecisionTreeClassifier

    model = uBoostClassifier(
        uniform_features=[NUISANCE], uniform_label=0, base_estimator=DecisionTreeClassifier(max_depth=4),
        n_estimators=40, efficiency_steps=5, n_threads=1, subsample=0.4,
        train_features=sample.features, random_state=seed,
    )  # fmt: skip
    model.fit(_frame(sample.learning, sample.features), sample.learning.y.numpy().astype(int))
    return np.asarray(model.predict_proba(_frame(sample.test, sample.features))[:, 1])


def moments(strength: float, sample: Sample, seed: int) -> NDArray[Any]:
    """modeloss, order 0, on background, beside the cross-entropy."""
    from modeloss.pytorch import MoDeLoss

    torch.manual_seed(seed)
    mode = MoDeLoss(bins=32, order=0, background_label=0)
    scale, net = _network(sample, outputs=1, hidden=(64, 64))

    def losses(b: Part) -> list[Tensor]:
        logit = net(scale(b.x))[:, 0]
        paid: Tensor = mode(logit.sigmoid(), b.y, b.z)
        return [F.binary_cross_entropy_with_logits(logit, b.y) + strength * paid]

    _descend([net], losses, sample.learning, batch=3072, turns=500, lr=2e-3)
    with torch.no_grad():
        return np.asarray(net(scale(sample.test.x))[:, 0].numpy())


def encoded(kind: str, beta: float, sample: Sample, seed: int, *, latents: int = 17) -> NDArray[Any]:
    """A VAE of pythae, and a classifier on those of its latents that do not know M_bc."""
    torch.manual_seed(seed)
    model, scale = _vae(kind, beta, sample, latents=latents)
    rows = len(sample.train.y)

    def losses(b: Part) -> list[Tensor]:
        out = model({"data": scale(b.x)}, dataset_size=rows)
        return [out.loss] if kind == "BetaTCVAE" else [out.autoencoder_loss, out.discriminator_loss]

    # As pythae's trainers do it: FactorVAE has two optimisers.
    players = [model] if kind == "BetaTCVAE" else [nn.ModuleList([model.encoder, model.decoder])]
    players += [] if kind == "BetaTCVAE" else [model.discriminator]
    _descend(players, losses, sample.train, batch=256, turns=1000, lr=1e-3)
    model.eval()
    means = [_means(model, scale, part) for part in (sample.train, sample.validation, sample.test)]
    background = sample.validation.y == 0
    weight = torch.ones(int(background.sum()))
    seen, z = means[1].x[background], sample.validation.z[background]
    known = torch.tensor([mutual_information(seen[:, d], z, weight, tail=False) for d in range(latents)])
    keep = (known <= 0.05).float()
    if not keep.any():
        keep[known.argmin()] = 1.0
    data = Data(*(part._replace(x=part.x * keep).events() for part in means[:2]))
    method = Tagger(features=data.train.features, nuisances=[NUISANCE], training={"turns": 500})
    method.learn(data, Play(seed=seed))
    return logits(method.eval(), means[2].x * keep)


def _vae(kind: str, beta: float, sample: Sample, *, latents: int) -> tuple[Any, nn.Module]:
    """With layers of 128, 128 and variance 0.1 of p(x|z), as ours has: pythae's is 1, for smaller inputs."""
    import pythae.models as known
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    count, hidden = len(sample.features), (128, 128)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = layers(count, 2 * latents, hidden=hidden)

        def forward(self, x: Tensor) -> Any:
            mean, log_var = self.net(x).chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_var.clamp(-8, 2))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = layers(latents, count, hidden=hidden)

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.net(z))

    strength = {"beta": beta} if kind == "BetaTCVAE" else {"gamma": beta}
    config = getattr(known, f"{kind}Config")(input_dim=(count,), latent_dim=latents, **strength)
    return getattr(known, kind)(config, encoder=Encoder(), decoder=Decoder()), _Wide(_scale(sample))


class _Wide(nn.Module):
    """Inputs times sqrt(10): squares of them over 2 are squares over 2 x 0.1."""

    def __init__(self, scale: nn.Module) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        wide: Tensor = self.scale(x) * 10**0.5
        return wide


def _means(model: Any, scale: nn.Module, part: Part) -> Part:
    with torch.no_grad():
        return part._replace(x=model.encoder(scale(part.x)).embedding)


def _scale(sample: Sample) -> nn.Module:
    scale = read_inputs(sample.features, sample.inputs)
    scale.fit(sample.train.x)
    return scale


def _network(sample: Sample, *, outputs: int, hidden: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    return _scale(sample), layers(len(sample.features), outputs, hidden=hidden)


def _descend(
    players: Sequence[nn.Module],
    losses: Callable[[Part], Sequence[Tensor]],
    part: Part,
    *,
    batch: int,
    turns: int,
    lr: float,
) -> None:
    """Each of the players down its own loss; AdamW and the learning rate over time are our taggers'."""
    moves = Moves(lr=lr)
    optimizers = [moves.optimise(player.parameters()) for player in players]
    for turn in range(turns):
        values = losses(part.take(torch.randint(len(part.y), (batch,))))
        for optimizer, value in zip(optimizers, values, strict=True):
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(value, retain_graph=len(values) > 1)
        for player, optimizer in zip(players, optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = moves.rate(turn / turns)
            nn.utils.clip_grad_norm_(player.parameters(), 5.0)
            optimizer.step()


THEIRS: dict[str, tuple[str, Scoring]] = {
    "hep_ml log loss": ("hep_ml", partial(boosted, 0)),
    "hep_ml uGB+BinFL, 3": ("hep_ml", partial(boosted, 3)),
    "hep_ml uGB+BinFL, 15": ("hep_ml", partial(boosted, 15)),
    "hep_ml uBoost": ("hep_ml", uboost),
    "modeloss, 30": ("modeloss", partial(moments, 30)),
    "modeloss, 300": ("modeloss", partial(moments, 300)),
    "pythae BetaTCVAE, 6": ("pythae", partial(encoded, "BetaTCVAE", 6)),
    "pythae FactorVAE, 20": ("pythae", partial(encoded, "FactorVAE", 20)),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder with the four ROOT files")
    source.add_argument("--table", type=Path, help="folder of a table made of them")
    options.add_argument("--train", type=int, default=40_000, help="events to learn from")
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--taggers", default="plain,disco,pivot,excised", help="of the config")
    options.add_argument("--keep", type=Path, help="folder of scores, to go on after an interruption")
    options.add_argument("--only", action="append", help="only what has this in its name; repeatable")
    given = options.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="sklearn|hep_ml")
    config = load(CONFIG)
    keep = given.keep or Path(tempfile.mkdtemp())
    keep.mkdir(parents=True, exist_ok=True)
    full = Table.open(given.table or _tabled(given.data, keep))
    split = Split(config.split.folds, tuple(config.split.validation), tuple(config.split.test))
    inputs = config.taggers["plain"]["network"]["inputs"]
    sample = sampled(full, rows=given.train, split=split, inputs=inputs, folder=keep / "table")
    scorings: dict[str, Scoring] = {}
    for name, (package, scoring) in THEIRS.items():
        if importlib.util.find_spec(package):
            scorings[name] = scoring
        else:
            print(f"{name}: {package} is not installed, left out; see this file's head")
    for name in given.taggers.split(","):
        scorings[f"hepdecorr {name}"] = partial(ours, config.taggers[name])
    found = [p for p in PACKAGES if importlib.util.find_spec(p)]
    print(", ".join(f"{p} {metadata.version(p)}" for p in (*found, "scikit-learn", "numpy", "torch")))
    count = int(sample.test.y.sum())
    print(f"{given.train} training, {len(sample.test.y) - count} + {count} test events\n")
    for name, scoring in scorings.items():
        if given.only and not any(part in name for part in given.only):
            continue
        for seed in range(1, given.seeds + 1):
            place = keep / f"{re.sub(r'[^a-zA-Z0-9]+', '-', name)}-{seed}.npz"
            score, seconds = _scored(scoring, sample, seed, place)
            y, z = sample.test.y.numpy(), sample.test.z.double().numpy()
            judged = evaluate(
                score, y, z, range=(5.20, 5.29), name=NUISANCE,
                permutations=1000, replicas=300, dcor_permutations=100,
            )  # fmt: skip
            tell(name, seed, judged, seconds)


def _scored(scoring: Scoring, sample: Sample, seed: int, place: Path) -> tuple[NDArray[Any], float]:
    if not place.exists():
        start = time.process_time()
        score = scoring(sample, seed)
        np.savez(place, score=np.asarray(score, np.float64), seconds=time.process_time() - start)
    with np.load(place) as file:
        return np.asarray(file["score"]), float(file["seconds"])


def tell(name: str, seed: int, judged: Evaluation, seconds: float) -> None:
    """A block of the table: AUC and dependence, then each working point."""
    a, d = judged.auc, judged.dcor2
    print(
        f"{name} (seed {seed}): AUC {a.value:.5f} +- {a.std or 0:.5f}, dCor^2 {d.dcor2.value:.6f} +- "
        f"{d.dcor2.std or 0:.6f}, {seconds:.0f} CPU s"
    )
    rows = zip(judged.signal_efficiency, judged.sculpting, judged.p_holm, strict=True)
    for efficiency, point, p in rows:
        e = efficiency.efficiency
        print(
            f"  rejection {efficiency.rejection:5}: signal {e.value:.4f} +- {(e.high - e.low) / 2:.4f}, "
            f"JSD excess {point.excess:8.5f} (below {point.excess_upper:.5f}; floor {point.floor:.5f}), "
            f"Holm p {p:.3f}",
            flush=True,
        )


def _tabled(data: Path, folder: Path) -> Path:
    """The training table of the four files, by the normal chain."""
    found = {}
    for use in ("train", "test"):
        for name, label in (("signal", "signal"), ("continuum", "background")):
            file = str((data / f"bsgamma_{name}_{use}.root").resolve())
            found[f"{name}_{use}"] = {"files": file, "label": label, "use": use}
    values = {"samples.datasets": json.dumps(found), "output": str((folder / "chain").resolve())}
    command = [sys.executable, "-m", "hepdecorr.cli.main", "table", str(CONFIG)]
    subprocess.run([*command, *(a for k, v in values.items() for a in ("--set", f"{k}={v}"))], check=True)
    return folder / "chain" / "table"


if __name__ == "__main__":
    main()
