"""Which scores are evaluated beside the taggers' own: `scores` of the config, as processors take them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hepdecorr.catalogue import suggest
from hepdecorr.config import Config
from hepdecorr.errors import InputError


def wanted(config: Config, models: Mapping[str, Path]) -> dict[str, list[str]]:
    """Further scores by TAGGER-SEED (-> folder of the model), for those that are to have some.

    A list in the config asks every tagger for what it has of it.  InputError names a score that none gives.
    """
    from hepdecorr.columnar.tagger import OnnxTagger

    given = {name: OnnxTagger(path, base=config.base).further_scores for name, path in models.items()}
    if isinstance(config.scores, list):
        if {name.rpartition("-")[0] for name in models} == set(config.taggers):
            everyone = dict.fromkeys(score for scores in given.values() for score in scores)
            _known(config.scores, everyone, config.at("scores"))
        found = {name: [s for s in config.scores if s in scores] for name, scores in given.items()}
    else:
        found = {}
        for name, scores in given.items():
            tagger = name.rpartition("-")[0]
            found[name] = config.scores.get(tagger, [])
            _known(found[name], dict.fromkeys(scores), config.at("scores", tagger))
    return {name: list(dict.fromkeys(scores)) for name, scores in found.items() if scores}


def _known(asked: list[str], given: Mapping[str, None], where: str) -> None:
    for score in asked:
        if score not in given:
            hint = suggest(score, given) if given else "; none gives any beside its own"
            raise InputError(f"{where}: no tagger gives a score {score!r}{hint}")
