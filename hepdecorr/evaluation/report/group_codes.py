"""Codes of groups and instances, of taggers side by side: group_codes.html, figures/, group_codes.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hepdecorr.evaluation import plots
from hepdecorr.evaluation.group_codes.differences import CodeDifference, compare_code_metrics
from hepdecorr.evaluation.group_codes.evaluation import (
    CODE_METRICS,
    PANEL_METRICS,
    PUBLISHED_METRICS,
    CodeEvaluation,
)
from hepdecorr.evaluation.metrics import Estimate, aggregate_seeds, format_significant, to_jsonable
from hepdecorr.evaluation.plots.group_codes import TranslatedGroup
from hepdecorr.evaluation.report import page
from hepdecorr.evaluation.report.content import FigureStore, atomic_write
from hepdecorr.evaluation.report.page import TableCell, format_over_seeds
from hepdecorr.evaluation.report.scan import provenance_section

EXACT_POSTERIOR_LABEL = "exact posterior"


@dataclass(frozen=True)
class GroupCodesReport:
    """What the page says.

    taggers: name -> seed -> its measures.  titles: of taggers.  chosen: by title, taggers to draw side by
    side; none: all of them.  floors: figures that the exact posterior comes to.  moved: name -> pairs of
    groups, translated.  sample: what was measured on, in words.  left_out: taggers without codes.
    """

    title: str
    taggers: Mapping[str, Mapping[int, CodeEvaluation]]
    titles: Mapping[str, str] = field(default_factory=dict)
    figure_groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    exact_metrics: Mapping[str, Estimate] = field(default_factory=dict)
    translated_groups: Mapping[str, Sequence[TranslatedGroup]] = field(default_factory=dict)
    feature: str = ""
    show_published: bool = False  # whether these are exam scores, of which the authors give numbers
    sample_description: str = "the test groups"
    skipped_taggers: Sequence[str] = ()
    command: str = ""
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    @property
    def metric_names(self) -> list[str]:
        """The figures that any tagger has, in their order."""
        found = {name for seeds in self.taggers.values() for one in seeds.values() for name in one.metrics}
        return [name for name in CODE_METRICS if name in found]

    def values_by_seed(self, metric: str) -> dict[str, dict[int, float]]:
        """Tagger -> seed -> one figure, of those that have it."""
        found = {
            name: {seed: one.metrics[metric].value for seed, one in seeds.items() if metric in one.metrics}
            for name, seeds in self.taggers.items()
        }
        return {name: seeds for name, seeds in found.items() if seeds}

    def find_estimates(self, tagger: str, metric: str) -> list[Estimate]:
        """One figure of one tagger, one for each seed."""
        return [one.metrics[metric] for one in self.taggers[tagger].values() if metric in one.metrics]


def write_group_codes_report(folder: Path, content: GroupCodesReport) -> Path:
    """Write the page, its figures and its numbers, the page last."""
    differences = {
        name: compare_code_metrics(content.values_by_seed(name), metric=name) for name in content.metric_names
    }
    figures = FigureStore(folder / "figures")
    title = f"{content.title}: codes of groups and instances"
    body = [page.heading(title, level=1), page.paragraph(_subtitle(content), css_class="soft")]
    body += [page.warning(one) for one in content.skipped_taggers]
    body += [
        page.heading("Measures"),
        page.html_table(metrics_header(PUBLISHED_METRICS), metrics_rows(content, PUBLISHED_METRICS)),
    ]
    body.append(page.paragraph(METRICS_TEXT, css_class="soft"))
    further = [name for name in content.metric_names if name not in PUBLISHED_METRICS]
    for first in range(0, len(further), _MAX_COLUMNS):
        some = further[first : first + _MAX_COLUMNS]
        body.append(page.html_table(metrics_header(some), metrics_rows(content, some)))
    body += [
        page.paragraph(EXTRA_METRICS_TEXT, css_class="soft"),
        *_skipped_section(content),
        *_detail_tables(content),
    ]
    body += _published_table() if content.show_published else []
    body.append(page.heading("Over seeds"))
    for name, taggers in (content.figure_groups or {"All taggers": list(content.taggers)}).items():
        body += _box_figures(content, name, taggers, figures)
    if content.translated_groups:
        body.append(page.heading("Translation"))
        drawn = plots.plot_translations(
            content.translated_groups, feature=content.feature, titles=content.titles
        )
        body.append(figures.add(drawn, "translations"))
    body += _differences_section(differences)
    body += provenance_section(content.command, content.versions, content.config_text)
    told = json.dumps(group_codes_to_dict(content, differences), indent=1) + "\n"
    atomic_write(folder / "group_codes.json", told.encode())
    atomic_write(folder / "group_codes.html", page.html_page(title, body).encode())
    return folder / "group_codes.html"


def group_codes_to_dict(
    content: GroupCodesReport, differences: Mapping[str, Sequence[CodeDifference]]
) -> dict[str, Any]:
    """Everything measured, JSON-able."""
    return {
        "version": 1,
        "command": content.command,
        "created": content.created,
        "versions": dict(content.versions),
        "sample": content.sample_description,
        "figures": {name: CODE_METRICS[name]._asdict() for name in content.metric_names},
        "taggers": {
            name: {
                "seeds": {str(seed): one.to_dict() for seed, one in seeds.items()},
                "over_seeds": {
                    figure: to_jsonable(aggregate_seeds(list(content.values_by_seed(figure)[name].values())))
                    for figure in content.metric_names
                    if name in content.values_by_seed(figure)
                },
            }
            for name, seeds in content.taggers.items()
        },
        "floors": to_jsonable(content.exact_metrics),
        "differences": {name: [one.to_dict() for one in pairs] for name, pairs in differences.items()},
        "config": content.config_text,
    }


def metrics_header(metrics: Sequence[str]) -> list[str]:
    """Titles of the columns of `rows`."""
    return ["Tagger", "seeds", *(CODE_METRICS[name].title for name in metrics)]


def metrics_rows(content: GroupCodesReport, metrics: Sequence[str]) -> list[list[str | TableCell]]:
    """One row a tagger: mean ± spread over seeds, or the error of one; last what is possible at best."""
    found: list[list[str | TableCell]] = []
    for name, seeds in content.taggers.items():
        row: list[str | TableCell] = [content.titles.get(name, name), str(len(seeds))]
        for figure in metrics:
            measured = content.find_estimates(name, figure)
            row.append(format_over_seeds(measured) if measured else "–")
        found.append(row)
    if any(name in content.exact_metrics for name in metrics):
        row = [EXACT_POSTERIOR_LABEL, "–"]
        row += [
            format_over_seeds([content.exact_metrics[name]]) if name in content.exact_metrics else "–"
            for name in metrics
        ]
        found.append(row)
    return found


def verdict_cell(difference: CodeDifference) -> TableCell:
    """Which of two taggers is better in a figure, or that this is not resolved."""
    if not difference.significant:
        return TableCell("not resolved" if difference.num_seeds > 1 else "one seed: nothing can be said")
    better = CODE_METRICS[difference.metric].direction
    if not better:
        return TableCell("they differ")
    ahead = difference.first if (difference.value.value > 0) == (better > 0) else difference.second
    return TableCell(f"{ahead} is better", "good")


def difference_row(difference: CodeDifference) -> list[str | TableCell]:
    """A difference as a row: pair, seeds, value, interval, p, verdict."""
    value, low, high = (
        format_significant(end, 3)
        for end in (difference.value.value, difference.value.low, difference.value.high)
    )
    pair = f"{difference.first} − {difference.second}"
    return [
        pair,
        str(difference.num_seeds),
        value,
        f"[{low}, {high}]",
        format_significant(difference.p_holm),
        verdict_cell(difference),
    ]


METRICS_TEXT = (
    "Mean ± standard deviation over seeds; of one seed, the error of a bootstrap of groups. Reconstruction "
    "and translation errors: mean squared, with codes drawn from their posteriors as in the paper; a "
    "translation decodes an event's own v with the u of another group, against what the true process makes "
    "of the true variables. U-probe: group variables from the group's code, V-probe: instance variables from "
    "the event's code, both from means, fitted on half of the groups and judged on the other, in units of "
    "their variance: 1 is nothing, 0 all. A variable whose sign does not act, as sigma of exam scores, "
    "cannot be predicted and counts as 1 in the mean; its square is in the tables below."
)
EXTRA_METRICS_TEXT = (
    "'Group from instance codes': the group's variables, predicted from all of its instance codes drawn from "
    "their posteriors, in any order; higher is better, 1 is no trace of the group. Means: of codes that are "
    "not drawn. Random features: ridge regression on them, which finds what is not linear. The likelihood "
    "is that of whole groups, by importance weights, a lower bound as the ELBO is. MIG of the group code: "
    "what it tells about the true group variables less what all instance codes tell, over their entropy, "
    "all lower bounds; of its latents: how much more the first tells than the second."
)
DIFFERENCES_TEXT = (
    "Paired by seed. Intervals 95 %, Student's; p: Wilcoxon's signed-rank test, Holm-adjusted over all pairs "
    "of a figure. Fewer than six seeds resolve nothing."
)
# Of the authors' draft, commits d5adfbd and 7cdbddb: mean and deviation over 7 runs, in units of 0.01.
PUBLISHED_VALUES = {
    "CxVAE": ("52.1 ± 0.6", "219.5 ± 4.7", "53.3 ± 1.2", "30.2 ± 0.3"),
    "ML-VAE": ("69.8 ± 1.6", "738.8 ± 13.6", "63.4 ± 1.0", "63.0 ± 0.3"),
    "GVAE": ("71.9 ± 4.3", "742.9 ± 14.4", "63.1 ± 0.9", "63.0 ± 0.4"),
    "GVAE, Nemeth's regulariser": ("70.0 ± 1.4", "735.3 ± 13.0", "63.8 ± 1.1", "63.0 ± 0.5"),
    "CxVAE, mean encoder": ("53.6", "224.7", "53.4", "30.9"),
    "CxVAE, product encoder": ("54.9", "229.2", "53.4", "31.4"),
    "CxVAE, unconditional": ("72.3", "729.0", "63.6", "63.0"),
    "CxVAE, no regulariser": ("54.1", "235.5", "53.6", "31.6"),
    "CxVAE, Nemeth's regulariser": ("53.7", "225.7", "53.5", "30.8"),
}
_MAX_COLUMNS = 6  # figures in one table


def _subtitle(content: GroupCodesReport) -> str:
    one = next(iter(next(iter(content.taggers.values())).values()))
    return (
        f"{len(content.taggers)} taggers on {content.sample_description}: "
        f"{one.groups:,} groups, {one.events:,} events. "
        f"{content.created}"
    )


def _skipped_section(content: GroupCodesReport) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for name, seeds in content.taggers.items():
        for figure, reason in next(iter(seeds.values())).skipped.items():
            reasons.setdefault(f"{CODE_METRICS[figure].title}: {reason}", []).append(name)
    every = len(content.taggers)
    shown = [
        f"{reason}." if len(names) == every else f"{reason} ({', '.join(names)})."
        for reason, names in reasons.items()
    ]
    return [page.heading("Left out"), *map(page.paragraph, shown)] if shown else []


def _detail_tables(content: GroupCodesReport) -> list[str]:
    """Tables of what each probe finds of each variable."""
    first = next(iter(next(iter(content.taggers.values())).values()))
    body = []
    for measure, variables in first.details.items():
        found: list[list[str | TableCell]] = []
        for name, seeds in content.taggers.items():
            here = [one.details[measure] for one in seeds.values() if measure in one.details]
            row = [
                format_over_seeds([one[variable] for one in here]) if here else "–" for variable in variables
            ]
            found.append([content.titles.get(name, name), *row])
        title = CODE_METRICS[measure].title if measure in CODE_METRICS else _INFORMATION_TITLES[measure]
        body.append(page.details(title, page.html_table(["Tagger", *variables], found)))
    return body


_INFORMATION_TITLES = {
    "information_group": "what the group code tells [nats, of ln 10]",
    "information_instance": "what all instance codes of a group tell [nats, of ln 10]",
}


def _published_table() -> list[str]:
    table = page.html_table(
        ["Authors' draft", *(CODE_METRICS[name].title for name in PUBLISHED_METRICS)],
        [[name, *figures] for name, figures in PUBLISHED_VALUES.items()],
    )
    text = (
        "As printed there, apparently in units of 0.01: exam scores without noise, errors over 7 runs, none "
        "given for the ablation. Their mean and product encoders differ from the Deep Sets in name alone."
    )
    return [page.details("Numbers of the authors", table + page.paragraph(text, css_class="soft"))]


def _box_figures(
    content: GroupCodesReport, title: str, taggers: Sequence[str], figures: FigureStore
) -> list[str]:
    shown = [name for name in taggers if name in content.taggers]
    panels = []
    for name in [one for one in PANEL_METRICS if one in content.metric_names] or content.metric_names[:4]:
        values = {tagger: content.find_estimates(tagger, name) for tagger in shown}
        floor = content.exact_metrics.get(name)
        about = CODE_METRICS[name]
        panels.append(plots.BoxPanel(about.title, about.direction, values, floor.value if floor else None))
    if not shown or not panels:
        return []
    drawn = plots.plot_box_panels(panels, titles=content.titles)
    return [figures.add(drawn, "codes", title, title=title)]


def _differences_section(differences: Mapping[str, Sequence[CodeDifference]]) -> list[str]:
    some = {name: pairs for name, pairs in differences.items() if pairs}
    if not some:
        return []
    body = [page.heading("Which differences are more than the luck of a training")]
    body.append(page.paragraph(DIFFERENCES_TEXT, css_class="soft"))
    columns = ["Pair", "seeds", "difference", "95 %", "p (Holm)", "<Verdict"]
    for figure, pairs in some.items():
        resolved = sum(one.significant for one in pairs)
        title = f"{CODE_METRICS[figure].title}: {resolved} of {len(pairs)} pairs resolved"
        ordered = sorted(pairs, key=lambda one: one.p_value)
        body.append(page.details(title, page.html_table(columns, [difference_row(one) for one in ordered])))
    return body
