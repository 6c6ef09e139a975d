"""What can be known to be wrong with a config before anything long begins."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from hepdecorr import registry
from hepdecorr.config.schema import Config, CutConfig
from hepdecorr.config.yaml_source import KeyPath
from hepdecorr.errors import InputError, suggest
from hepdecorr.table import Table
from hepdecorr.workflow import progress, warm_start

# Keys of a tagger's block that are for people and not for the method.
DISPLAY_KEYS = ("title", "description")
# Keys that say what it learns from, and how that is weighed.
FORWARD_MODELS_MODULE = (
    "hepdecorr.evaluation.group_codes.exam_scores"  # where groups.truth.process is looked for
)
_DATA_KEYS = ("features", "constituents", "length", "nuisances", "balance", "reweight", "posthoc")


def check_feature_names(config: Config) -> None:
    """Whether every feature that the config names is one; InputError names the line of one that is not."""
    from hepdecorr.columnar import features
    from hepdecorr.columnar.features import per_constituent

    for name, place in _requested_features(config):
        with progress.prefix_errors(config.location_of(*place)):
            for one in features.expand_names([name]):
                features.describe_feature(one, base=config.base)
    for i, name in enumerate(config.constituents.features if config.constituents else []):
        with progress.prefix_errors(config.location_of("constituents", "features", i)):
            for one in per_constituent.expand_constituent_names([name]):
                per_constituent.describe_constituent(one)
    _check_group_truth(config)
    if config.systematics:
        from hepdecorr.columnar import systematics

        for name, spec in config.systematics.items():
            with progress.locate_errors(config, "systematics", name):
                systematics.build_systematics({name: spec}, base=config.base, objects=config.objects_spec)


def check_branches(config: Config, datasets: Sequence[Any]) -> None:
    """Whether what is no feature is a branch, by the first file on this disk that can be read.

    What a dataset's own selection names is looked for in that dataset's files.
    """
    found = progress.read_branch_names(datasets, config.samples.tree)
    if found is None:
        return
    collections = _collection_names(found)
    if config.objects and (name := config.objects.collection) not in collections:
        hint = suggest(name, {b.split("_")[0] for b in found if "_" in b})
        raise InputError(
            f"{config.location_of('objects', 'collection')}: the files have no collection {name!r}{hint}"
        )
    _check_names_exist(config, [*_common_features(config)], found)
    for dataset in datasets:
        own = config.samples.datasets.get(dataset.name)
        if own is None or not own.selection:
            continue
        if (found := progress.read_branch_names([dataset], config.samples.tree)) is not None:
            _check_names_exist(
                config,
                _cut_features(own.selection, ("samples", "datasets", dataset.name, "selection")),
                found,
            )


def _collection_names(branches: Sequence[str]) -> set[str]:
    # Of 'Collection.field' only the first part: fields may be made by the schema or by behaviours.
    return {branch.split("_")[0] for branch in branches}


def _check_names_exist(
    config: Config, requested: Sequence[tuple[str, KeyPath]], branches: Sequence[str]
) -> None:
    """Whether each name is a feature or one of the branches `found`; InputError names the line."""
    from hepdecorr.columnar import features

    collections = _collection_names(branches)
    for name, place in requested:
        for one in features.expand_names([name]):
            first, dot, _ = one.partition(".")
            known = collections if dot else {*features.FEATURES, *branches}
            if ":" not in one and first not in known:
                hint = suggest(first, known if dot else {*known, *features.FEATURE_GROUPS})
                raise InputError(
                    f"{config.location_of(*place)}: {one!r} is neither a feature nor a branch{hint}"
                )


def expected_columns(config: Config) -> dict[str, list[str]]:
    """Names of the columns that the config's training table has, by role."""
    from hepdecorr.columnar import features
    from hepdecorr.columnar.features import per_constituent

    found = {"feature": features.expand_names(config.features), "nuisance": list(config.nuisances)}
    wanted = config.constituents.features if config.constituents else []
    found["constituent"] = [
        f"constituents.{name}" for name in per_constituent.expand_constituent_names(wanted)
    ]
    return found | {"group": ["group"] if config.groups else []}


def check_taggers(config: Config, taggers: Sequence[str]) -> None:
    """Build each method once, so that a mistake in its block is told; InputError names the line."""
    import torch

    from hepdecorr.training.pipeline import METHODS_MODULE
    from hepdecorr.training.posthoc import PosthocChain

    known = expected_columns(config)
    constituents = [name.partition(".")[2] for name in known["constituent"]]
    for name in taggers:
        with progress.locate_errors(config, "taggers", name), torch.random.fork_rng(devices=[]):
            spec = method_spec(config.taggers[name])
            about: dict[str, Any] = {
                "features": _select_columns(spec, "features", known["feature"]),
                "constituents": _select_columns(spec, "constituents", constituents),
                "nuisances": _select_columns(spec, "nuisances", known["nuisance"]),
                "length": _read_length(spec, config),
            }
            if not about["features"] and not about["constituents"]:
                raise InputError("no features and no constituents to learn from; name some in the config")
            if spec.get("reweight") is not None:
                _check_reweighting(spec["reweight"], known["nuisance"])
            warm_start.check_start_from(config, name)
            if "posthoc" in spec:
                PosthocChain.from_config(spec["posthoc"], table_nuisances=known["nuisance"], base=config.base)
            spec = {key: value for key, value in spec.items() if key not in _DATA_KEYS}
            try:
                method = registry.build(spec, namespace=METHODS_MODULE, base=config.base, **about)
            except InputError:
                raise
            except (TypeError, ValueError) as err:
                raise InputError(f"a value is of the wrong type or out of range: {err}") from err
            if config.samples.has_train_signal is False and getattr(method, "needs_signal", True):
                raise InputError(
                    f"{type(method).__name__} learns from signal too, and no dataset of label 'signal' or "
                    f"'outlier' is there to train with; add one under samples, or a method that needs none"
                )
            if getattr(method, "needs_groups", False) and not config.groups:
                raise InputError(
                    f"{type(method).__name__} learns from groups, and the config names none; add 'groups: "
                    "{by: run}' with what names them"
                )
            if getattr(method, "context_dim", 0):
                with progress.prefix_errors(config.location_of("processors", "groups")):
                    registry.find(config.processors.groups, namespace="hepdecorr.columnar", base=config.base)
            network = getattr(method, "network", None)
            if network is not None and not callable(getattr(network, "fit", None)):
                raise InputError(
                    f"network: {type(network).__name__} has no fit(x), which sets the scaling of its inputs "
                    f"from the training events; add one, empty if there is nothing to set"
                )


def find_data_warnings(config: Config, table: Table, taggers: Collection[str]) -> Iterator[tuple[str, str]]:
    """What is odd about the events that these taggers learn from: the line of the tagger, and a sentence."""
    from hepdecorr.training.data import checks
    from hepdecorr.training.data.layout import ColumnLayout

    for name in config.taggers:
        if name in taggers:
            block = config.taggers[name]
            layout = ColumnLayout.from_table(
                table, features=block.get("features"), nuisances=block.get("nuisances")
            )
            for text in checks.data_warnings(table, layout, split=config.table_split):
                yield config.location_of("taggers", name), text


def method_spec(block: dict[str, Any]) -> dict[str, Any]:
    """A tagger's block without what is for people."""
    return {key: value for key, value in block.items() if key not in DISPLAY_KEYS}


def _check_group_truth(config: Config) -> None:
    if config.groups is None:
        return
    truth = config.groups.truth
    for key, chosen in (("group", truth.group), ("instance", truth.instance)):
        for i, name in enumerate(chosen):
            if name not in config.nuisances:
                place = config.location_of("groups", "truth", key, i)
                raise InputError(f"{place}: no nuisance {name!r}{suggest(name, config.nuisances)}")
    if truth.forward_model:
        try:
            registry.find(truth.forward_model, namespace=FORWARD_MODELS_MODULE, base=config.base)
        except InputError as err:
            raise InputError(f"{config.location_of('groups', 'truth', 'forward_model')}: {err}") from None


def _select_columns(spec: dict[str, Any], key: str, available: list[str]) -> list[str]:
    chosen = spec.get(key)
    if chosen is None:
        return available
    if not isinstance(chosen, list):
        raise InputError(
            f"{key} must be a list of names, as [{available[0] if available else ''}], not {chosen!r}"
        )
    for name in chosen:
        if name not in available:
            raise InputError(f"{key}: the config has no {name!r}{suggest(name, available)}")
    return list(chosen)


def _check_reweighting(block: Any, nuisances: list[str]) -> None:
    from hepdecorr.training.data.reweighting import Reweighting

    # Nothing within would be no reweighting, and no word of it.
    if not isinstance(block, dict) or not block:
        raise InputError(
            f"reweight must say in what, as {{nuisances: [{nuisances[0]}]}}, not {block!r}; leave it out "
            f"for none"
        )
    try:
        Reweighting.from_config(block, table_nuisances=nuisances)
    except InputError:
        raise
    except (TypeError, ValueError) as err:
        raise InputError(f"reweight: a value is of the wrong type or out of range: {err}") from err


def _read_length(spec: dict[str, Any], config: Config) -> int:
    most = config.constituents.length if config.constituents else 0
    length = spec.get("length", most)
    # Without constituents it says nothing.
    if most and not (type(length) is int and 1 <= length <= most):
        raise InputError(f"length must be a whole number from 1 to the config's {most}, not {length!r}")
    return int(length) if most else 0


def _requested_features(config: Config) -> Iterator[tuple[str, KeyPath]]:
    """Every feature that the config names, and where it does."""
    yield from _common_features(config)
    for name, dataset in config.samples.datasets.items():
        yield from _cut_features(dataset.selection, ("samples", "datasets", name, "selection"))


def _common_features(config: Config) -> Iterator[tuple[str, KeyPath]]:
    """Every feature that is asked of all datasets."""
    yield from ((name, ("features", i)) for i, name in enumerate(config.features))
    yield from ((spec.feature or name, ("nuisances", name)) for name, spec in config.nuisances.items())
    yield from ((name, ("weights", i)) for i, name in enumerate(config.weights))
    yield from ((name, ("groups", "by")) for name in config.group_by)
    yield from _cut_features(config.selection, ("selection",))


def _cut_features(cuts: Sequence[CutConfig], key_path: KeyPath) -> list[tuple[str, KeyPath]]:
    return [(cut.feature or cut.function, (*key_path, i)) for i, cut in enumerate(cuts)]
