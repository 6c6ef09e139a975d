"""Codes of groups and instances, of taggers side by side: groups.html, figures/, groups.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hepdecorr.validation import page, plots
from hepdecorr.validation.content import Figures, write
from hepdecorr.validation.measures import Measured, over_seeds, plain, significant
from hepdecorr.validation.measures.code_differences import CodeDifference, code_differences
from hepdecorr.validation.measures.code_evaluation import FIGURES, PANELS, PUBLISHED, CodeMeasures
from hepdecorr.validation.page import Cell, across
from hepdecorr.validation.plots.codes import Moved
from hepdecorr.validation.scanned import provenance

FLOOR = "exact posterior"


@dataclass(frozen=True)
class CodesInput:
    """What the page says.

    taggers: name -> seed -> its measures.  titles: of taggers.  chosen: by title, taggers to draw side by
    side; none: all of them.  floors: figures that the exact posterior comes to.  moved: name -> pairs of
    groups, translated.  sample: what was measured on, in words.  left_out: taggers without codes.
    """

    title: str
    taggers: Mapping[str, Mapping[int, CodeMeasures]]
    titles: Mapping[str, str] = field(default_factory=dict)
    chosen: Mapping[str, Sequence[str]] = field(default_factory=dict)
    floors: Mapping[str, Measured] = field(default_factory=dict)
    moved: Mapping[str, Sequence[Moved]] = field(default_factory=dict)
    feature: str = ""
    published: bool = False  # whether these are exam scores, of which the authors give numbers
    sample: str = "the test groups"
    left_out: Sequence[str] = ()
    command: str = ""
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    @property
    def figures(self) -> list[str]:
        """The figures that any tagger has, in their order."""
        found = {name for seeds in self.taggers.values() for one in seeds.values() for name in one.figures}
        return [name for name in FIGURES if name in found]

    def values(self, figure: str) -> dict[str, dict[int, float]]:
        """Tagger -> seed -> one figure, of those that have it."""
        found = {
            name: {seed: one.figures[figure].value for seed, one in seeds.items() if figure in one.figures}
            for name, seeds in self.taggers.items()
        }
        return {name: seeds for name, seeds in found.items() if seeds}

    def measured(self, name: str, figure: str) -> list[Measured]:
        """One figure of one tagger, one for each seed."""
        return [one.figures[figure] for one in self.taggers[name].values() if figure in one.figures]


def write_codes(folder: Path, content: CodesInput) -> Path:
    """Write the page, its figures and its numbers, the page last."""
    differences = {name: code_differences(content.values(name), figure=name) for name in content.figures}
    figures = Figures(folder / "figures")
    title = f"{content.title}: codes of groups and instances"
    body = [page.heading(title, level=1), page.paragraph(_subtitle(content), kind="soft")]
    body += [page.warning(one) for one in content.left_out]
    body += [page.heading("Measures"), page.table(header(PUBLISHED), rows(content, PUBLISHED))]
    body.append(page.paragraph(MEASURES, kind="soft"))
    further = [name for name in content.figures if name not in PUBLISHED]
    for first in range(0, len(further), _WIDE):
        some = further[first : first + _WIDE]
        body.append(page.table(header(some), rows(content, some)))
    body += [page.paragraph(FURTHER, kind="soft"), *_left_out(content), *_details(content)]
    body += _published() if content.published else []
    body.append(page.heading("Over seeds"))
    for name, taggers in (content.chosen or {"All taggers": list(content.taggers)}).items():
        body += _boxes(content, name, taggers, figures)
    if content.moved:
        body.append(page.heading("Translation"))
        drawn = plots.translations(content.moved, feature=content.feature, titles=content.titles)
        body.append(figures.add(drawn, "translations"))
    body += _differences(differences)
    body += provenance(content.command, content.versions, content.config_text)
    told = json.dumps(numbers(content, differences), indent=1) + "\n"
    write(folder / "groups.json", told.encode())
    write(folder / "groups.html", page.page(title, body).encode())
    return folder / "groups.html"


def numbers(content: CodesInput, differences: Mapping[str, Sequence[CodeDifference]]) -> dict[str, Any]:
    """Everything measured, JSON-able."""
    return {
        "version": 1,
        "command": content.command,
        "created": content.created,
        "versions": dict(content.versions),
        "sample": content.sample,
        "figures": {name: FIGURES[name]._asdict() for name in content.figures},
        "taggers": {
            name: {
                "seeds": {str(seed): one.to_dict() for seed, one in seeds.items()},
                "over_seeds": {
                    figure: plain(over_seeds(list(content.values(figure)[name].values())))
                    for figure in content.figures
                    if name in content.values(figure)
                },
            }
            for name, seeds in content.taggers.items()
        },
        "floors": plain(content.floors),
        "differences": {name: [one.to_dict() for one in pairs] for name, pairs in differences.items()},
        "config": content.config_text,
    }


def header(figures: Sequence[str]) -> list[str]:
    """Titles of the columns of `rows`."""
    return ["Tagger", "seeds", *(FIGURES[name].title for name in figures)]


def rows(content: CodesInput, figures: Sequence[str]) -> list[list[str | Cell]]:
    """One row a tagger: mean ± spread over seeds, or the error of one; last what is possible at best."""
    found: list[list[str | Cell]] = []
    for name, seeds in content.taggers.items():
        row: list[str | Cell] = [content.titles.get(name, name), str(len(seeds))]
        for figure in figures:
            measured = content.measured(name, figure)
            row.append(across(measured) if measured else "–")
        found.append(row)
    if any(name in content.floors for name in figures):
        row = [FLOOR, "–"]
        row += [across([content.floors[name]]) if name in content.floors else "–" for name in figures]
        found.append(row)
    return found


def said(one: CodeDifference) -> Cell:
    """Which of two taggers is better in a figure, or that this is not resolved."""
    if not one.resolved:
        return Cell("not resolved" if one.seeds > 1 else "one seed: nothing can be said")
    better = FIGURES[one.figure].better
    if not better:
        return Cell("they differ")
    ahead = one.first if (one.value.value > 0) == (better > 0) else one.second
    return Cell(f"{ahead} is better", "good")


def told(one: CodeDifference) -> list[str | Cell]:
    """A difference as a row: pair, seeds, value, interval, p, verdict."""
    value, low, high = (significant(end, 3) for end in (one.value.value, one.value.low, one.value.high))
    pair = f"{one.first} − {one.second}"
    return [pair, str(one.seeds), value, f"[{low}, {high}]", significant(one.p_holm), said(one)]


MEASURES = (
    "Mean ± standard deviation over seeds; of one seed, the error of a bootstrap of groups. Reconstruction "
    "and translation errors: mean squared, with codes drawn from their posteriors as in the paper; a "
    "translation decodes an event's own v with the u of another group, against what the true process makes "
    "of the true variables. U-probe: group variables from the group's code, V-probe: instance variables from "
    "the event's code, both from means, fitted on half of the groups and judged on the other, in units of "
    "their variance: 1 is nothing, 0 all. A variable whose sign does not act, as sigma of exam scores, "
    "cannot be predicted and counts as 1 in the mean; its square is in the tables below."
)
FURTHER = (
    "'Group from instance codes': the group's variables, predicted from all of its instance codes drawn from "
    "their posteriors, in any order; higher is better, 1 is no trace of the group. Means: of codes that are "
    "not drawn. Random features: ridge regression on them, which finds what is not linear. The likelihood "
    "is that of whole groups, by importance weights, a lower bound as the ELBO is. MIG of the group code: "
    "what it tells about the true group variables less what all instance codes tell, over their entropy, "
    "all lower bounds; of its latents: how much more the first tells than the second."
)
DIFFERENCES = (
    "Paired by seed. Intervals 95 %, Student's; p: Wilcoxon's signed-rank test, Holm-adjusted over all pairs "
    "of a figure. Fewer than six seeds resolve nothing."
)
# Of the authors' draft, commits d5adfbd and 7cdbddb: mean and deviation over 7 runs, in units of 0.01.
AUTHORS = {
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
_WIDE = 6  # figures in one table


def _subtitle(content: CodesInput) -> str:
    one = next(iter(next(iter(content.taggers.values())).values()))
    return (
        f"{len(content.taggers)} taggers on {content.sample}: {one.groups:,} groups, {one.events:,} events. "
        f"{content.created}"
    )


def _left_out(content: CodesInput) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for name, seeds in content.taggers.items():
        for figure, reason in next(iter(seeds.values())).left_out.items():
            reasons.setdefault(f"{FIGURES[figure].title}: {reason}", []).append(name)
    every = len(content.taggers)
    shown = [
        f"{reason}." if len(names) == every else f"{reason} ({', '.join(names)})."
        for reason, names in reasons.items()
    ]
    return [page.heading("Left out"), *map(page.paragraph, shown)] if shown else []


def _details(content: CodesInput) -> list[str]:
    """Tables of what each probe finds of each variable."""
    first = next(iter(next(iter(content.taggers.values())).values()))
    body = []
    for measure, variables in first.details.items():
        found: list[list[str | Cell]] = []
        for name, seeds in content.taggers.items():
            here = [one.details[measure] for one in seeds.values() if measure in one.details]
            row = [across([one[variable] for one in here]) if here else "–" for variable in variables]
            found.append([content.titles.get(name, name), *row])
        title = FIGURES[measure].title if measure in FIGURES else _INFORMATION[measure]
        body.append(page.folded_markup(title, page.table(["Tagger", *variables], found)))
    return body


_INFORMATION = {
    "information_group": "what the group code tells [nats, of ln 10]",
    "information_instance": "what all instance codes of a group tell [nats, of ln 10]",
}


def _published() -> list[str]:
    table = page.table(
        ["Authors' draft", *(FIGURES[name].title for name in PUBLISHED)],
        [[name, *figures] for name, figures in AUTHORS.items()],
    )
    text = (
        "As printed there, apparently in units of 0.01: exam scores without noise, errors over 7 runs, none "
        "given for the ablation. Their mean and product encoders differ from the Deep Sets in name alone."
    )
    return [page.folded_markup("Numbers of the authors", table + page.paragraph(text, kind="soft"))]


def _boxes(content: CodesInput, title: str, taggers: Sequence[str], figures: Figures) -> list[str]:
    shown = [name for name in taggers if name in content.taggers]
    panels = []
    for name in [one for one in PANELS if one in content.figures] or content.figures[:4]:
        values = {tagger: content.measured(tagger, name) for tagger in shown}
        floor = content.floors.get(name)
        about = FIGURES[name]
        panels.append(plots.Panel(about.title, about.better, values, floor.value if floor else None))
    if not shown or not panels:
        return []
    drawn = plots.boxes(panels, titles=content.titles)
    return [figures.add(drawn, "codes", title, title=title)]


def _differences(differences: Mapping[str, Sequence[CodeDifference]]) -> list[str]:
    some = {name: pairs for name, pairs in differences.items() if pairs}
    if not some:
        return []
    body = [page.heading("Which differences are more than the luck of a training")]
    body.append(page.paragraph(DIFFERENCES, kind="soft"))
    columns = ["Pair", "seeds", "difference", "95 %", "p (Holm)", "<Verdict"]
    for figure, pairs in some.items():
        resolved = sum(one.resolved for one in pairs)
        title = f"{FIGURES[figure].title}: {resolved} of {len(pairs)} pairs resolved"
        ordered = sorted(pairs, key=lambda one: one.p_value)
        body.append(page.folded_markup(title, page.table(columns, [told(one) for one in ordered])))
    return body
