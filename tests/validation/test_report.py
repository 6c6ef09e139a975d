"""The report: one folder, self-contained, complete, escaped."""

from __future__ import annotations

import html.parser
import json
import re

import pytest

from hepdecorr.errors import InputError
from hepdecorr.validation.plots import Scores
from hepdecorr.validation.report import ReportInput, report

COMPLETENESS = {
    "files": 2,
    "events_expected": 100,
    "events_processed": 60,
    "complete": False,
    "unreadable": [{"file": "broken.root", "reason": "truncated", "events": 40}],
}


class Page(html.parser.HTMLParser):
    """Collects what a browser would fetch or run, the open tags, and the text."""

    VOID = {"meta", "img", "br", "hr", "link"}

    def __init__(self):
        super().__init__()
        self.sources, self.tags, self.open, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory, taggers, histogram, samples):
    folder = tmp_path_factory.mktemp("report")
    content = ReportInput(
        name="B -> K* gamma <test>",
        taggers=taggers,
        config_text="method: {type: Tagger}  # <script>alert(1)</script>",
        histograms={"mbc": histogram},
        labels={"continuum": 0, "signal": 1},
        titles={"mbc": r"$M_{bc}$"},
        scores={
            "mbc": {
                name: Scores(one["logit"], one["label"], one["nuisance"]) for name, one in samples.items()
            }
        },
        histories={"plain": {"tagger/loss": [0.5, 0.4]}},
        completeness={"apply": COMPLETENESS},
        cards={"plain": {"name": "plain", "seed": 1}},
        versions={"hepdecorr": "0.1.0"},
        provenance={"table": "abc"},
    )
    path = report(folder / "new" / "report", content)
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return path, page


def test_the_page_is_self_contained_and_well_formed(written):
    path, page = written
    text = path.read_text(encoding="utf-8")
    assert page.open == []
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert not re.search(r"@import|url\(", text)
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)
    assert "<script>alert" not in text


def test_the_page_says_what_was_found(written, taggers):
    _, page = written
    for expected in (
        taggers["plain"][0].verdicts[1],
        "no sculpting resolved in 2 seeds",
        "20 equal bins of mbc from 5.2 to 5.29 GeV",
        "Incomplete: apply",
        "broken.root: truncated",
        "<script>alert(1)</script>",
        "rejection asked",
        "hepdecorr",
        "Card of plain",
    ):
        assert expected in page.text
    assert page.tags.count("img") == page.tags.count("figcaption") >= 8


def test_figures_and_metrics_lie_beside_the_page(written, taggers):
    path, page = written
    figures = {one.name for one in (path.parent / "figures").iterdir()}
    assert {"overview_mbc.pdf", "overview_mbc.png", "tradeoff_mbc.pdf", "training_plain.png"} <= figures
    assert len(figures) == 2 * page.tags.count("img")
    metrics = json.loads((path.parent / "metrics.json").read_text())
    assert metrics["taggers"]["plain"][0] == taggers["plain"][0].to_dict()
    assert len(metrics["taggers"]["flat"]) == 2
    assert metrics["completeness"]["apply"]["complete"] is False
    # Nothing half-written is left behind.
    assert not [one for one in path.parent.rglob("*") if one.name.startswith(".")]


def test_a_report_of_numbers_alone(tmp_path, taggers):
    path = report(tmp_path, ReportInput(name="numbers", taggers={"flat": taggers["flat"][:1]}))
    text = path.read_text(encoding="utf-8")
    assert "no sculpting resolved (excess below" in text
    assert "Incomplete" not in text


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="no evaluations of any tagger"):
        report(tmp_path, ReportInput(name="empty", taggers={}))
    with pytest.raises(InputError, match="no evaluations of pivot"):
        report(tmp_path, ReportInput(name="empty", taggers={"pivot": []}))
    assert not list(tmp_path.iterdir())
