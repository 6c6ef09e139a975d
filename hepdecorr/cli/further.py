"""Scores that a tagger gives beside its own: TAGGER-SEED.NAME in the score table, TAGGER.NAME in a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import hist
import numpy as np

from hepdecorr.card import Card
from hepdecorr.catalogue import suggest
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.table import Table
from hepdecorr.validation.measures.efficiency import Tail


def tagger_of(name: str) -> str:
    """TAGGER of TAGGER-SEED, TAGGER.NAME of TAGGER-SEED.NAME: the same for all seeds."""
    tagger, _, rest = name.partition("-")  # no tagger has one in its name
    return tagger + "".join(rest.partition(".")[1:])


def found(scores: Table, models: Iterable[str]) -> dict[str, str]:
    """The further scores of a score table, each with the TAGGER-SEED that gives it."""
    return {name: model for model in models for name in scores.names("score") if name.startswith(f"{model}.")}


def chosen(config: Config, further: Iterable[str]) -> list[str]:
    """Those that are measured as a tagger is: all, or those whose spectra are asked for."""
    known = list(further)
    if config.report.further == "measured":
        return known
    asked = {name for row in config.report.spectra.values() for name in row}
    return [name for name in known if tagger_of(name) in asked]


def cards(models: Mapping[str, Card], further: Mapping[str, str]) -> dict[str, Card]:
    """Cards of the further scores: their tagger's, whose thresholds are of another score."""
    return {name: replace(models[model], working_points=()) for name, model in further.items()}


def spectra(config: Config, shown: Iterable[str]) -> dict[str, list[str]]:
    """By title, the scores that stand side by side, as far as their taggers are reported.

    InputError names the line of one that its tagger does not give.
    """
    known = list(shown)
    taggers = {name for name in known if name in config.taggers}
    found = {}
    for title, row in config.report.spectra.items():
        own = [name for name in row if name in taggers or name.rpartition(".")[0] in taggers]
        for name in own:
            if name not in known:
                where = config.at("report", "spectra", title)
                raise InputError(f"{where}: no score {name!r} was evaluated{suggest(name, known)}")
        if own:
            found[title] = own
    return found


def filled(
    histogram: hist.Hist[Any],
    events: Mapping[str, Any],
    scores: Mapping[str, str],
    *,
    datasets: list[str],
    rejections: Iterable[float],
) -> hist.Hist[Any]:
    """The sculpting histogram with further scores too, {name on the axis: name among the events}.

    Cuts are quantiles of the background of these events: nobody froze one.  events['dataset'] is the place
    among `datasets`.
    """
    from hepdecorr.columnar.histograms import fill_sculpting

    axes = [
        hist.axis.StrCategory([*axis, *scores], growth=True, name="tagger") if axis.name == "tagger" else axis
        for axis in histogram.axes
    ]
    made: hist.Hist[Any] = hist.Hist(*axes, storage=hist.storage.Weight())
    where = histogram.axes.name.index("tagger")
    size = len(histogram.axes[where])
    part: list[Any] = [slice(None)] * len(axes)
    part[where] = slice(0, size)
    made.view(flow=True)[tuple(part)] = np.take(histogram.view(flow=True), range(size), axis=where)
    background = events["label"] == 0
    for shown, name in scores.items():
        logit = events[name].astype(np.float64)
        tail = Tail(logit[background], events["weight"][background].astype(np.float64))
        cuts = {one: tail.threshold(1 - one) for one in rejections}
        for number, dataset in enumerate(datasets):
            own = events["dataset"] == number
            fill_sculpting(
                made,
                events[histogram.axes[-1].name][own],
                dataset=dataset,
                tagger=shown,
                weight=events["weight"][own],
                logit=logit[own],
                thresholds=cuts,
            )
    return made
