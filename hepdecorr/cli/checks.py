"""What can be known to be wrong with a config before anything long begins."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from hepdecorr import catalogue
from hepdecorr.cli import origins, show
from hepdecorr.config import Config, Cut
from hepdecorr.document import Place
from hepdecorr.errors import InputError
from hepdecorr.table import Table

# Keys of a tagger's block that are for people and not for the method.
ABOUT = ("title", "description")
# Keys that say what it learns from, and how that is weighed.
PROCESSES = "hepdecorr.validation.measures.processes"  # where groups.truth.process is looked for
_LEARNT_FROM = ("features", "constituents", "length", "nuisances", "balance", "reweight", "posthoc")


def names(config: Config) -> None:
    """Whether every feature that the config names is one; InputError names the line of one that is not."""
    from hepdecorr.columnar import features
    from hepdecorr.columnar.features import per_constituent

    for name, place in _asked(config):
        with show.blamed(config.at(*place)):
            for one in features.expand([name]):
                features.describe(one, base=config.base)
    for i, name in enumerate(config.constituents.features if config.constituents else []):
        with show.blamed(config.at("constituents", "features", i)):
            for one in per_constituent.expand_constituents([name]):
                per_constituent.describe_constituent(one)
    _truth(config)
    if config.shifts:
        from hepdecorr.columnar import shifts

        for name, spec in config.shifts.items():
            with show.blamed(config.at("shifts", name)):
                shifts.build({name: spec}, base=config.base, objects=config.objects_spec)


def branches(config: Config, datasets: Sequence[Any]) -> None:
    """Whether what is no feature is a branch, by the first file on this disk that can be read.

    What a dataset's own selection names is looked for in that dataset's files.
    """
    found = show.branches(datasets, config.samples.tree)
    if found is None:
        return
    collections = _collections(found)
    if config.objects and (name := config.objects.collection) not in collections:
        hint = catalogue.suggest(name, {b.split("_")[0] for b in found if "_" in b})
        raise InputError(f"{config.at('objects', 'collection')}: the files have no collection {name!r}{hint}")
    _there(config, [*_asked_of_all(config)], found)
    for dataset in datasets:
        own = config.samples.datasets.get(dataset.name)
        if own is None or not own.selection:
            continue
        if (found := show.branches([dataset], config.samples.tree)) is not None:
            _there(config, _cut(own.selection, ("samples", "datasets", dataset.name, "selection")), found)


def _collections(found: Sequence[str]) -> set[str]:
    # Of 'Collection.field' only the first part: fields may be made by the schema or by behaviours.
    return {branch.split("_")[0] for branch in found}


def _there(config: Config, asked: Sequence[tuple[str, Place]], found: Sequence[str]) -> None:
    """Whether each name is a feature or one of the branches `found`; InputError names the line."""
    from hepdecorr.columnar import features

    collections = _collections(found)
    for name, place in asked:
        for one in features.expand([name]):
            first, dot, _ = one.partition(".")
            known = collections if dot else {*features.FEATURES, *found}
            if ":" not in one and first not in known:
                hint = catalogue.suggest(first, known if dot else {*known, *features.GROUPS})
                raise InputError(f"{config.at(*place)}: {one!r} is neither a feature nor a branch{hint}")


def columns(config: Config) -> dict[str, list[str]]:
    """Names of the columns that the config's training table has, by role."""
    from hepdecorr.columnar import features
    from hepdecorr.columnar.features import per_constituent

    found = {"feature": features.expand(config.features), "nuisance": list(config.nuisances)}
    wanted = config.constituents.features if config.constituents else []
    found["constituent"] = [f"constituents.{name}" for name in per_constituent.expand_constituents(wanted)]
    return found | {"group": ["group"] if config.groups else []}


def methods(config: Config, taggers: Sequence[str]) -> None:
    """Build each method once, so that a mistake in its block is told; InputError names the line."""
    import torch

    from hepdecorr.learning.fitting import METHODS
    from hepdecorr.learning.posthoc import Chain

    known = columns(config)
    constituents = [name.partition(".")[2] for name in known["constituent"]]
    for name in taggers:
        with show.blamed(config.at("taggers", name)), torch.random.fork_rng(devices=[]):
            spec = method_spec(config.taggers[name])
            about: dict[str, Any] = {
                "features": _chosen(spec, "features", known["feature"]),
                "constituents": _chosen(spec, "constituents", constituents),
                "nuisances": _chosen(spec, "nuisances", known["nuisance"]),
                "length": _length(spec, config),
            }
            if not about["features"] and not about["constituents"]:
                raise InputError("no features and no constituents to learn from; name some in the config")
            if spec.get("reweight") is not None:
                _reweighted(spec["reweight"], known["nuisance"])
            origins.check(config, name)
            if "posthoc" in spec:
                Chain.read(spec["posthoc"], known=known["nuisance"], base=config.base)
            spec = {key: value for key, value in spec.items() if key not in _LEARNT_FROM}
            try:
                method = catalogue.build(spec, home=METHODS, base=config.base, **about)
            except InputError:
                raise
            except (TypeError, ValueError) as err:
                raise InputError(f"a value is of the wrong type or out of range: {err}") from err
            if config.samples.trains_on_signal is False and getattr(method, "needs_signal", True):
                raise InputError(
                    f"{type(method).__name__} learns from signal too, and no dataset of label 'signal' or "
                    f"'outlier' is there to train with; add one under samples, or a method that needs none"
                )
            if getattr(method, "whole", False) and not config.groups:
                raise InputError(
                    f"{type(method).__name__} learns from groups, and the config names none; add 'groups: "
                    "{of: run}' with what names them"
                )
            if getattr(method, "context", 0):
                with show.blamed(config.at("processors", "groups")):
                    catalogue.find(config.processors.groups, home="hepdecorr.columnar", base=config.base)
            network = getattr(method, "network", None)
            if network is not None and not callable(getattr(network, "fit", None)):
                raise InputError(
                    f"network: {type(network).__name__} has no fit(x), which sets the scaling of its inputs "
                    f"from the training events; add one, empty if there is nothing to set"
                )


def odd(config: Config, table: Table, taggers: Collection[str]) -> Iterator[tuple[str, str]]:
    """What is odd about the events that these taggers learn from: the line of the tagger, and a sentence."""
    from hepdecorr.learning import vetting
    from hepdecorr.learning.layout import Layout

    for name in config.taggers:
        if name in taggers:
            block = config.taggers[name]
            layout = Layout.of(table, features=block.get("features"), nuisances=block.get("nuisances"))
            for text in vetting.odd(table, layout, split=config.table_split):
                yield config.at("taggers", name), text


def method_spec(block: dict[str, Any]) -> dict[str, Any]:
    """A tagger's block without what is for people."""
    return {key: value for key, value in block.items() if key not in ABOUT}


def _truth(config: Config) -> None:
    if config.groups is None:
        return
    truth = config.groups.truth
    for key, chosen in (("group", truth.group), ("instance", truth.instance)):
        for i, name in enumerate(chosen):
            if name not in config.nuisances:
                place = config.at("groups", "truth", key, i)
                raise InputError(f"{place}: no nuisance {name!r}{catalogue.suggest(name, config.nuisances)}")
    if truth.process:
        try:
            catalogue.find(truth.process, home=PROCESSES, base=config.base)
        except InputError as err:
            raise InputError(f"{config.at('groups', 'truth', 'process')}: {err}") from None


def _chosen(spec: dict[str, Any], key: str, known: list[str]) -> list[str]:
    chosen = spec.get(key)
    if chosen is None:
        return known
    if not isinstance(chosen, list):
        raise InputError(f"{key} must be a list of names, as [{known[0] if known else ''}], not {chosen!r}")
    for name in chosen:
        if name not in known:
            raise InputError(f"{key}: the config has no {name!r}{catalogue.suggest(name, known)}")
    return list(chosen)


def _reweighted(block: Any, nuisances: list[str]) -> None:
    from hepdecorr.learning.reweighting import Reweighting

    # Nothing within would be no reweighting, and no word of it.
    if not isinstance(block, dict) or not block:
        raise InputError(
            f"reweight must say in what, as {{nuisances: [{nuisances[0]}]}}, not {block!r}; leave it out "
            f"for none"
        )
    try:
        Reweighting.read(block, known=nuisances)
    except InputError:
        raise
    except (TypeError, ValueError) as err:
        raise InputError(f"reweight: a value is of the wrong type or out of range: {err}") from err


def _length(spec: dict[str, Any], config: Config) -> int:
    most = config.constituents.length if config.constituents else 0
    length = spec.get("length", most)
    # Without constituents it says nothing.
    if most and not (type(length) is int and 1 <= length <= most):
        raise InputError(f"length must be a whole number from 1 to the config's {most}, not {length!r}")
    return int(length) if most else 0


def _asked(config: Config) -> Iterator[tuple[str, Place]]:
    """Every feature that the config names, and where it does."""
    yield from _asked_of_all(config)
    for name, dataset in config.samples.datasets.items():
        yield from _cut(dataset.selection, ("samples", "datasets", name, "selection"))


def _asked_of_all(config: Config) -> Iterator[tuple[str, Place]]:
    """Every feature that is asked of all datasets."""
    yield from ((name, ("features", i)) for i, name in enumerate(config.features))
    yield from ((spec.feature or name, ("nuisances", name)) for name, spec in config.nuisances.items())
    yield from ((name, ("weights", i)) for i, name in enumerate(config.weights))
    yield from ((name, ("groups", "of")) for name in config.grouped_by)
    yield from _cut(config.selection, ("selection",))


def _cut(cuts: Sequence[Cut], place: Place) -> list[tuple[str, Place]]:
    return [(cut.feature or cut.function, (*place, i)) for i, cut in enumerate(cuts)]
