"""What can be known to be wrong with the events before a training begins.

Jets that cannot be learned from, and outliers that can teach little: told before a training begins.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from hepdecorr.errors import InputError
from hepdecorr.table import Selection, Split, Table
from hepdecorr.training.data.batches import Batch, multiply_weights, validate_labels
from hepdecorr.training.data.layout import ColumnLayout
from hepdecorr.training.data.splits import DataSplits
from hepdecorr.training.losses import Exposure
from hepdecorr.training.losses.adversary import Adversary
from hepdecorr.training.losses.base import MIN_TERM_EVENTS, Term
from hepdecorr.training.losses.outlier_exposure import MatchedOutliers, warn_few_effective_events
from hepdecorr.training.losses.predictive_adversaries import GMM
from hepdecorr.training.methods.base import Method
from hepdecorr.training.objective import TrainingConfig

log = logging.getLogger(__name__)


MAX_CHECKED_EVENTS = 20_000  # events of each dataset in which something odd is looked for
MAX_RANK_CORRELATION = 0.999  # rank correlation from which on a feature is the nuisance in other words
MAX_DISCRETE_VALUES = 100  # different values up to which a variable with a frequent value counts as discrete


def check_training_data(method: Method, data: DataSplits) -> None:
    """InputError where a term cannot work on these events, which says what would.

    A nuisance that is constant, too few events for the term's bins, batches that hold next to none of the
    events it looks at, or a density of a nuisance that takes a few values.
    """
    _check_constant_nuisances(data)
    terms, recipe = getattr(method, "terms", None), getattr(method, "training_config", None)
    batch = recipe.batch_size if isinstance(recipe, TrainingConfig) else 0
    for term in terms.values() if isinstance(terms, torch.nn.ModuleDict) else ():
        if isinstance(term, Term):
            _check_term(term, data, batch_size=batch)


def _check_constant_nuisances(data: DataSplits) -> None:
    """Nothing can be judged against a constant, whatever protects it."""
    sample = data.train.sample(generator=torch.Generator().manual_seed(1))
    for name, z in zip(data.train.nuisances, sample.z[sample.y == 0].T, strict=True):
        if len(z) and bool((z == z[0]).all()):
            raise InputError(
                f"nuisance {name!r} is {float(z[0]):g} in all {len(z)} background events; a constant tells "
                "nothing and needs no protection: leave it out of 'nuisances'"
            )


def _check_term(term: Term, data: DataSplits, *, batch_size: int) -> None:
    name = type(term).__name__
    sample = data.train.sample(generator=torch.Generator().manual_seed(1))
    own = term.event_mask(sample)
    kind = {"background": "background ", "signal": "signal "}.get(term.classes, "")
    share = float(own.sum()) / len(own)
    count = round(share * len(data.train))
    bins = int(getattr(term, "bins", 0))
    if count < max(bins, MIN_TERM_EVENTS):
        wanted = (
            f"{bins} bins of it"
            if bins > MIN_TERM_EVENTS
            else f"a term, which looks at {MIN_TERM_EVENTS} at least"
        )
        raise InputError(
            f"{name}: nuisance {term.nuisance_label!r}: {count} {kind}events to train on for {wanted}; lower "
            "'bins', or check the selection and the files of that class"
        )
    sizes = {"training": 0 if getattr(term, "tail_sample", 0) else batch_size}
    sizes |= {name: term.adversary_update.batch_size} if isinstance(term, Adversary) else {}
    for where, size in sizes.items():
        held = count / data.train.num_batches(size) if size else MIN_TERM_EVENTS
        if held < MIN_TERM_EVENTS:
            raise InputError(
                f"{name}: a batch of {size} events holds {held:.1f} {kind}events on average, and the term "
                f"looks at {MIN_TERM_EVENTS} at least: it would see nothing; write {where}: batch_size: "
                f"{int(np.ceil(2 * MIN_TERM_EVENTS / share))} or more"
            )
    for column, nuisance in zip(term.columns, term.nuisances, strict=True):
        values, counts = sample.z[own, column].unique(return_counts=True)
        if (
            isinstance(term, GMM)
            and len(values) <= MAX_DISCRETE_VALUES
            and int(counts.max()) > 0.01 * float(own.sum())
        ):
            raise InputError(
                f"{name}: nuisance {nuisance!r} takes {len(values)} values only, and a mixture of Gaussians "
                f"would become infinitely narrow on them; use "
                f"{{type: QuantileBinAdversary, nuisance: {nuisance}, "
                f"bins: {max(2, len(values))}}}, or DisCo, whose ranks share equal values"
            )


def data_warnings(table: Table, layout: ColumnLayout, *, split: Split) -> Iterator[str]:
    """What is odd about the training events, a sentence each; nothing of it ends a training.

    A nuisance among the features, a feature that is the nuisance in other words (their rank correlation on
    background), weights that are negative or zero.
    """
    arrays = _read_training_sample(table, layout, split=split)
    label, w = validate_labels(arrays["label"]), multiply_weights(arrays, layout.weight_columns)
    for nuisance in layout.nuisances:
        if nuisance in layout.features:
            yield (
                f"the protected variable {nuisance!r} is among the features: the tagger sees what it must "
                "not tell; leave it out of 'features' unless that is what you want to try"
            )
            continue
        for feature in layout.features:
            rho = _spearman(arrays[feature][label == 0], arrays[nuisance][label == 0])
            if abs(rho) > MAX_RANK_CORRELATION:
                yield (
                    f"feature {feature!r} is the protected variable {nuisance!r} in other words (rank "
                    f"correlation {rho:.4f} on background): the tagger sees what it must not tell; leave "
                    "it out, unless a term or a map is there to take it back"
                )
    for value, name in ((0, "background"), (1, "signal")):
        own = w[label == value]
        if (negative := int((own < 0).sum())) > 0:
            lost = -own[own < 0].sum() / max(own[own > 0].sum(), 1e-300)
            yield (
                f"{negative} of {len(own)} {name} events looked at have negative weights, {lost:.1%} of the "
                "positive ones: they subtract in the cross-entropy and count as nothing in ranks, scalings, "
                "bins and draws"
            )
        if len(own) and (zero := int((own == 0).sum())) > 0:
            yield f"{zero} of {len(own)} {name} events looked at have weight zero and say nothing"


def _read_training_sample(
    table: Table, layout: ColumnLayout, *, split: Split
) -> dict[str, NDArray[np.generic]]:
    """Some training events of each dataset."""
    names = list(dict.fromkeys([*layout.features, *layout.nuisances, "label", *layout.weight_columns]))
    parts, rows = [], dict.fromkeys((shard.dataset for shard in table.shards), 0)
    for shard in table.shards:
        if rows[shard.dataset] < MAX_CHECKED_EVENTS:
            part = replace(table, shards=(shard,)).read(names, select=Selection("train", split))
            parts.append({name: array[:MAX_CHECKED_EVENTS] for name, array in part.items()})
            rows[shard.dataset] += len(part["label"])
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _spearman(x: NDArray[np.generic], z: NDArray[np.generic]) -> float:
    """Rank correlation; 0 where a variable is constant or there is next to nothing."""
    a, b = stats.rankdata(x), stats.rankdata(z)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def check_outliers(sample: Batch) -> None:
    """InputError without outliers among training events; a warning where they are few."""
    own = sample.y == 1
    if not (sample.w * sample.loss_weight)[own].clamp_min(0).sum() > 0:
        raise InputError(
            "exposure: an empty outlier set: no training event has label 1 and a positive weight; add a "
            "dataset of 'label: outlier' under samples, check its selection, or leave 'exposure' out"
        )
    warn_few_effective_events(
        (sample.w * sample.loss_weight)[own].clamp_min(0), label="outliers to train with"
    )


def build_matched_outliers(
    exposures: Mapping[str, Exposure], events: Batch, *, nuisances: Sequence[str], seed: int
) -> dict[str, MatchedOutliers]:
    """The outliers of those exposures that want them matched, by the exposure's name."""
    return {
        name: MatchedOutliers(one.matching, events, nuisances=nuisances, seed=seed)
        for name, one in exposures.items()
        if one.matching is not None
    }


def count_excluded(train: Batch, validation: Batch, *, valid_column: int = -1) -> dict[str, int]:
    """How many jets of each class, of flat rows, have no part in the training; a warning where there are any.

    good: the column that is 1 for a jet of two constituents with momentum.
    """
    found = {}
    for label, name in enumerate(("background", "outliers")):
        flags: list[Tensor] = [b.x[b.y == label, valid_column] for b in (train, validation)]
        count, rows = (sum(f(one) for one in flags) for f in (_count_invalid, len))
        if rows:
            found[name] = count
        if count:
            log.warning(
                "%d of %d %s jets have fewer than two constituents with momentum: they are left out of the "
                "training and of what judges it; they have a score, but one without a meaning",
                count, rows, name,
            )  # fmt: skip
    return found


def training_notes(record: Mapping[str, Any], exposures: Mapping[str, Exposure]) -> list[str]:
    """What the entry of the history says in words: jets that were left out, exposures that taught nothing."""
    counts = {name: count for name, count in record["metrics"]["excluded"].items() if count}
    text = ", ".join(f"{count} of {name}" for name, count in counts.items())
    told = [f"left out of the training, fewer than two constituents: {text}"] if counts else []
    for name, one in exposures.items():
        kept = record["curves"].get(f"valid/{name}", [])
        if one.strength and kept and not any(kept):
            told.append(
                f"{name}: the outliers kept the margin by themselves in every epoch and have taught nothing; "
                "ask for a greater margin, or form: pair or latent, which ask it of each jet"
            )
    return told


def _count_invalid(flags: Tensor) -> int:
    return int((flags < 0.5).sum())
