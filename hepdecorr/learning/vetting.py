"""What can be known to be wrong with the events before a training begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from hepdecorr.errors import InputError
from hepdecorr.learning.batches import Data, labels, product
from hepdecorr.learning.layout import Layout
from hepdecorr.learning.methods.method import Method
from hepdecorr.learning.players import Recipe
from hepdecorr.learning.terms.adversary import Adversary
from hepdecorr.learning.terms.gmm import GMM
from hepdecorr.learning.terms.term import FEWEST, Term
from hepdecorr.table import Selection, Split, Table

LOOKED_AT = 20_000  # events of each dataset in which something odd is looked for
SAME = 0.999  # rank correlation from which on a feature is the nuisance in other words
VALUES = 100  # different values up to which a variable with a frequent value counts as discrete


def check(method: Method, data: Data) -> None:
    """InputError where a term cannot work on these events, which says what would.

    A nuisance that is constant, too few events for the term's bins, batches that hold next to none of the
    events it looks at, or a density of a nuisance that takes a few values.
    """
    _check_constant(data)
    terms, recipe = getattr(method, "terms", None), getattr(method, "recipe", None)
    batch = recipe.batch if isinstance(recipe, Recipe) else 0
    for term in terms.values() if isinstance(terms, torch.nn.ModuleDict) else ():
        if isinstance(term, Term):
            _check_term(term, data, batch=batch)


def _check_constant(data: Data) -> None:
    """Nothing can be judged against a constant, whatever protects it."""
    sample = data.train.sample(generator=torch.Generator().manual_seed(1))
    for name, z in zip(data.train.nuisances, sample.z[sample.y == 0].T, strict=True):
        if len(z) and bool((z == z[0]).all()):
            raise InputError(
                f"nuisance {name!r} is {float(z[0]):g} in all {len(z)} background events; a constant tells "
                "nothing and needs no protection: leave it out of 'nuisances'"
            )


def _check_term(term: Term, data: Data, *, batch: int) -> None:
    name = type(term).__name__
    sample = data.train.sample(generator=torch.Generator().manual_seed(1))
    own = term.among(sample)
    kind = {"background": "background ", "signal": "signal "}.get(term.given, "")
    share = float(own.sum()) / len(own)
    count = round(share * len(data.train))
    bins = int(getattr(term, "bins", 0))
    if count < max(bins, FEWEST):
        wanted = f"{bins} bins of it" if bins > FEWEST else f"a term, which looks at {FEWEST} at least"
        raise InputError(
            f"{name}: nuisance {term.nuisance!r}: {count} {kind}events to train on for {wanted}; lower "
            "'bins', or check the selection and the files of that class"
        )
    sizes = {"training": 0 if getattr(term, "draw", 0) else batch}
    sizes |= {name: term.chasing.batch} if isinstance(term, Adversary) else {}
    for where, size in sizes.items():
        held = count / data.train.turns(size) if size else FEWEST
        if held < FEWEST:
            raise InputError(
                f"{name}: a batch of {size} events holds {held:.1f} {kind}events on average, and the term "
                f"looks at {FEWEST} at least: it would see nothing; write {where}: batch: "
                f"{int(np.ceil(2 * FEWEST / share))} or more"
            )
    for column, nuisance in zip(term.columns, term.nuisances, strict=True):
        values, counts = sample.z[own, column].unique(return_counts=True)
        if isinstance(term, GMM) and len(values) <= VALUES and int(counts.max()) > 0.01 * float(own.sum()):
            raise InputError(
                f"{name}: nuisance {nuisance!r} takes {len(values)} values only, and a mixture of Gaussians "
                f"would become infinitely narrow on them; use {{type: Softmax, nuisance: {nuisance}, bins: "
                f"{max(2, len(values))}}}, or DisCo, whose ranks share equal values"
            )


def odd(table: Table, layout: Layout, *, split: Split) -> Iterator[str]:
    """What is odd about the training events, a sentence each; nothing of it ends a training.

    A nuisance among the features, a feature that is the nuisance in other words (their rank correlation on
    background), weights that are negative or zero.
    """
    arrays = _some(table, layout, split=split)
    label, w = labels(arrays["label"]), product(arrays, layout.weights)
    for nuisance in layout.nuisances:
        if nuisance in layout.features:
            yield (
                f"the protected variable {nuisance!r} is among the features: the tagger sees what it must "
                "not tell; leave it out of 'features' unless that is what you want to try"
            )
            continue
        for feature in layout.features:
            rho = _spearman(arrays[feature][label == 0], arrays[nuisance][label == 0])
            if abs(rho) > SAME:
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


def _some(table: Table, layout: Layout, *, split: Split) -> dict[str, NDArray[np.generic]]:
    """Some training events of each dataset."""
    names = list(dict.fromkeys([*layout.features, *layout.nuisances, "label", *layout.weights]))
    parts, rows = [], dict.fromkeys((shard.dataset for shard in table.shards), 0)
    for shard in table.shards:
        if rows[shard.dataset] < LOOKED_AT:
            part = replace(table, shards=(shard,)).read(names, select=Selection("train", split))
            parts.append({name: array[:LOOKED_AT] for name, array in part.items()})
            rows[shard.dataset] += len(part["label"])
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _spearman(x: NDArray[np.generic], z: NDArray[np.generic]) -> float:
    """Rank correlation; 0 where a variable is constant or there is next to nothing."""
    a, b = stats.rankdata(x), stats.rankdata(z)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
