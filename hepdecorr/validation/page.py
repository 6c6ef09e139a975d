"""Pieces of a self-contained HTML page: text in, markup out, everything escaped."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from hepdecorr.validation.measures import Measured, over_seeds, significant


@dataclass(frozen=True)
class Cell:
    """A table's cell that is not a plain number: `kind` is 'text', 'good' or 'bad'."""

    content: str
    kind: str = "text"


def page(title: str, body: Sequence[str]) -> str:
    """A whole document with its style inside; it asks nothing of the network and needs no script."""
    style = resources.files("hepdecorr.validation").joinpath("report.css").read_text(encoding="utf-8")
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


def paragraph(text: str, *, kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{escape(text)}</p>"


def warning(text: str) -> str:
    return f'<div class="warning" role="alert">{escape(text)}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> str:
    """A table; a header that starts with '<' belongs to a column of text."""
    lines = ['<div class="scroll"><table>', "<thead><tr>"]
    lines += [
        f'<th class="text">{escape(one[1:])}</th>' if one.startswith("<") else f"<th>{escape(one)}</th>"
        for one in header
    ]
    lines.append("</tr></thead>\n<tbody>")
    for row in rows:
        cells = (one if isinstance(one, Cell) else Cell(one, "") for one in row)
        lines.append("<tr>" + "".join(_cell(cell) for cell in cells) + "</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _cell(cell: Cell) -> str:
    kind = f"text {cell.kind}" if cell.kind in ("good", "bad") else cell.kind
    return f'<td class="{kind}">{escape(cell.content)}</td>' if kind else f"<td>{escape(cell.content)}</td>"


def mapping(title: str, content: Mapping[str, object]) -> str:
    """A two-column table of names and values."""
    return table([title, "<"], [[str(key), Cell(str(value))] for key, value in content.items()])


def folded(summary: str, text: str) -> str:
    """Preformatted text behind a line that opens it."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def folded_markup(summary: str, markup: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{markup}</details>"


def image(content: bytes, *, kind: str, title: str, caption: str) -> str:
    """A figure embedded as data; kind: 'svg+xml' or 'png'. As an image its ids cannot clash with others'."""
    data = base64.b64encode(content).decode("ascii")
    return (
        f'<figure><img alt="{escape(title)}" src="data:image/{kind};base64,{data}">'
        f"<figcaption><strong>{escape(title)}.</strong> {escape(caption)}</figcaption></figure>"
    )


def plus_minus(value: float, error: float | None) -> str:
    """value ± error with two digits of the error."""
    if error is None or not math.isfinite(error) or error <= 0:
        return significant(value, 4)
    digits = max(1 - math.floor(math.log10(error)), 0)
    if digits > 6:
        return f"({value / 10 ** (1 - digits):.0f} ± {error / 10 ** (1 - digits):.0f})e{1 - digits}"
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def across(measured: Sequence[Measured]) -> str:
    """Mean ± spread over seeds; for a single seed its value with the statistical interval."""
    finite = [one for one in measured if math.isfinite(one.value)]
    if not finite:
        return "–"
    if len(finite) > 1:
        spread = over_seeds([one.value for one in finite])
        return plus_minus(spread.mean, spread.std)
    one = finite[0]
    up, down = one.high - one.value, one.value - one.low
    if math.isfinite(up) and max(up, down) < 1.3 * min(up, down):
        return plus_minus(one.value, (up + down) / 2)
    high = significant(one.high, 3) if math.isfinite(one.high) else "∞"
    return f"{significant(one.value, 3)} [{significant(one.low, 3)}, {high}]"
