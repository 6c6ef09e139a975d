"""Scores that a tagger gives beside its own: TAGGER-SEED.NAME in the score table, TAGGER.NAME in a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hepdecorr.card import Card
from hepdecorr.catalogue import suggest
from hepdecorr.config import Config
from hepdecorr.errors import InputError
from hepdecorr.table import Table


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
    """Cards of the further scores: their tagger's with the score's own working points, where it has some."""
    found = {}
    for name, model in further.items():
        card, score = models[model], name.removeprefix(f"{model}.")
        none = card.model_copy(update={"working_points": ()})
        found[name] = card.of_score(score) if score in card.further_points else none
    return found


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
