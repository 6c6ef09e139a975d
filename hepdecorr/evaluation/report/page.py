"""Pieces of a self-contained HTML page: text in, markup out, everything escaped.

Names of scores as people read them: of 'TAGGER.kl', a further score of one network, 'TAGGER: KL'.

What a report is made of, and where its figures go.
"""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from hepdecorr.evaluation.metrics import Estimate, aggregate_seeds, format_significant


@dataclass(frozen=True)
class TableCell:
    """A table's cell that is not a plain number: `kind` is 'text', 'good' or 'bad'."""

    content: str
    css_class: str = "text"


def html_page(title: str, body: Sequence[str]) -> str:
    """A whole document with its style inside; it asks nothing of the network and needs no script."""
    style = resources.files("hepdecorr.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def escape(text: object) -> str:
    return html.escape(str(text), quote=True)


def heading(text: str, *, level: int = 2, anchor: str = "") -> str:
    mark = f' id="{escape(anchor)}"' if anchor else ""
    return f"<h{level}{mark}>{escape(text)}</h{level}>"


def paragraph(text: str, *, css_class: str = "") -> str:
    mark = f' class="{css_class}"' if css_class else ""
    return f"<p{mark}>{escape(text)}</p>"


def warning(text: str) -> str:
    return f'<div class="warning" role="alert">{escape(text)}</div>'


def html_table(header: Sequence[str], rows: Iterable[Sequence[str | TableCell]]) -> str:
    """A table; a header that starts with '<' belongs to a column of text."""
    lines = ['<div class="scroll"><table>', "<thead><tr>"]
    lines += [
        f'<th class="text">{escape(one[1:])}</th>' if one.startswith("<") else f"<th>{escape(one)}</th>"
        for one in header
    ]
    lines.append("</tr></thead>\n<tbody>")
    for row in rows:
        cells = (one if isinstance(one, TableCell) else TableCell(one, "") for one in row)
        lines.append("<tr>" + "".join(_render_cell(cell) for cell in cells) + "</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _render_cell(cell: TableCell) -> str:
    kind = f"text {cell.css_class}" if cell.css_class in ("good", "bad") else cell.css_class
    return f'<td class="{kind}">{escape(cell.content)}</td>' if kind else f"<td>{escape(cell.content)}</td>"


def key_value_table(title: str, content: Mapping[str, object]) -> str:
    """A two-column table of names and values."""
    return html_table([title, "<"], [[str(key), TableCell(str(value))] for key, value in content.items()])


def details_pre(summary: str, text: str) -> str:
    """Preformatted text behind a line that opens it."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def details(summary: str, markup: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{markup}</details>"


def embed_image(content: bytes, *, image_format: str, title: str, caption: str) -> str:
    """A figure embedded as data; kind: 'svg+xml' or 'png'. As an image its ids cannot clash with others'."""
    data = base64.b64encode(content).decode("ascii")
    return (
        f'<figure><img alt="{escape(title)}" src="data:image/{image_format};base64,{data}">'
        f"<figcaption><strong>{escape(title)}.</strong> {escape(caption)}</figcaption></figure>"
    )


def format_with_error(value: float, error: float | None) -> str:
    """value ± error with two digits of the error."""
    if error is None or not math.isfinite(error) or error <= 0:
        return format_significant(value, 4)
    digits = max(1 - math.floor(math.log10(error)), 0)
    if digits > 6:
        return f"({value / 10 ** (1 - digits):.0f} ± {error / 10 ** (1 - digits):.0f})e{1 - digits}"
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def format_over_seeds(estimates: Sequence[Estimate]) -> str:
    """Mean ± spread over seeds; for a single seed its value with the statistical interval."""
    finite = [one for one in estimates if math.isfinite(one.value)]
    if not finite:
        return "–"
    if len(finite) > 1:
        spread = aggregate_seeds([one.value for one in finite])
        return format_with_error(spread.mean, spread.std)
    one = finite[0]
    up, down = one.high - one.value, one.value - one.low
    if math.isfinite(up) and max(up, down) < 1.3 * min(up, down):
        return format_with_error(one.value, (up + down) / 2)
    high = format_significant(one.high, 3) if math.isfinite(one.high) else "∞"
    return f"{format_significant(one.value, 3)} [{format_significant(one.low, 3)}, {high}]"


# What graphs of autoencoders give; other names stand as they are.
SCORE_TITLES = {
    "mse": "MSE",
    "kl": "KL",
    "nll": "MSE + β KL",
    "emd": "EMD",
    "emd_sphere": "EMD, opening angles",
    "emd_plane": "EMD, η and φ",
    "sumsq": "sum of squares",
    "density": "latent density",
}

# Of mathtext, what titles of processes hold.
MATH_SYMBOLS = {r"\to": "→", r"\rightarrow": "→", r"\gamma": "γ", r"\mu": "μ", r"\tau": "τ", r"\bar": ""}


def mathtext_to_text(title: str) -> str:
    """A title with mathtext as a page shows it: 'H → hh (20 GeV)' of '$H \\to hh$ (20 GeV)'."""
    text = re.sub(r"[${}]", "", title)
    return re.sub(r"\\[a-z]+", lambda found: MATH_SYMBOLS.get(found[0], found[0][1:]), text)


def parent_tagger(score_name: str) -> str:
    """The tagger that gives a score: TAGGER of TAGGER.NAME, or the name itself."""
    tagger, dot, last = score_name.rpartition(".")
    return tagger if dot and last in SCORE_TITLES else score_name


def score_title(score_name: str) -> str:
    """The name for figures and tables."""
    tagger = parent_tagger(score_name)
    return score_name if tagger == score_name else f"{tagger}: {SCORE_TITLES[score_name.rpartition('.')[2]]}"
