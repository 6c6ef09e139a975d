"""Scores that a tagger gives beside its own: TAGGER-SEED.NAME in the score table, TAGGER.NAME in a report.

Which scores are evaluated beside the taggers' own: `scores` of the config, as processors take them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from hepdecorr.config.schema import Config
from hepdecorr.errors import InputError, suggest
from hepdecorr.model_card import ModelCard
from hepdecorr.table import Table


def strip_seed(name: str) -> str:
    """TAGGER of TAGGER-SEED, TAGGER.NAME of TAGGER-SEED.NAME: the same for all seeds."""
    tagger, _, rest = name.partition("-")  # no tagger has one in its name
    return tagger + "".join(rest.partition(".")[1:])


def find_extra_scores(scores: Table, models: Iterable[str]) -> dict[str, str]:
    """The further scores of a score table, each with the TAGGER-SEED that gives it."""
    return {
        name: model
        for model in models
        for name in scores.column_names("score")
        if name.startswith(f"{model}.")
    }


def select_extra_scores(config: Config, extra_scores: Iterable[str]) -> list[str]:
    """Those that are measured as a tagger is: all, or those whose spectra are asked for."""
    known = list(extra_scores)
    if config.report.extra_scores == "full":
        return known
    asked = {name for row in config.report.spectra_panels.values() for name in row}
    return [name for name in known if strip_seed(name) in asked]


def make_extra_score_cards(
    model_cards: Mapping[str, ModelCard], extra_scores: Mapping[str, str]
) -> dict[str, ModelCard]:
    """Cards of the further scores: their tagger's with the score's own working points, where it has some."""
    found = {}
    for name, model in extra_scores.items():
        card, score = model_cards[model], name.removeprefix(f"{model}.")
        none = card.model_copy(update={"working_points": ()})
        found[name] = card.for_score(score) if score in card.extra_working_points else none
    return found


def select_spectra_panels(config: Config, score_names: Iterable[str]) -> dict[str, list[str]]:
    """By title, the scores that stand side by side, as far as their taggers are reported.

    InputError names the line of one that its tagger does not give.
    """
    known = list(score_names)
    taggers = {name for name in known if name in config.taggers}
    found = {}
    for title, row in config.report.spectra_panels.items():
        own = [name for name in row if name in taggers or name.rpartition(".")[0] in taggers]
        for name in own:
            if name not in known:
                where = config.location_of("report", "spectra_panels", title)
                raise InputError(f"{where}: no score {name!r} was evaluated{suggest(name, known)}")
        if own:
            found[title] = own
    return found


def resolve_extra_scores(config: Config, models: Mapping[str, Path]) -> dict[str, list[str]]:
    """Further scores by TAGGER-SEED (-> folder of the model), for those that are to have some.

    A list in the config asks every tagger for what it has of it.  InputError names a score that none gives.
    """
    from hepdecorr.columnar.tagger import OnnxTagger

    given = {name: OnnxTagger(path, base=config.base).extra_score_names for name, path in models.items()}
    if isinstance(config.extra_scores, list):
        if {name.rpartition("-")[0] for name in models} == set(config.taggers):
            everyone = dict.fromkeys(score for scores in given.values() for score in scores)
            _check_score_names(config.extra_scores, everyone, config.location_of("extra_scores"))
        found = {name: [s for s in config.extra_scores if s in scores] for name, scores in given.items()}
    else:
        found = {}
        for name, scores in given.items():
            tagger = name.rpartition("-")[0]
            found[name] = config.extra_scores.get(tagger, [])
            _check_score_names(found[name], dict.fromkeys(scores), config.location_of("extra_scores", tagger))
    return {name: list(dict.fromkeys(scores)) for name, scores in found.items() if scores}


def _check_score_names(requested: list[str], available: Mapping[str, None], location: str) -> None:
    for score in requested:
        if score not in available:
            hint = suggest(score, available) if available else "; none gives any beside its own"
            raise InputError(f"{location}: no tagger gives a score {score!r}{hint}")
