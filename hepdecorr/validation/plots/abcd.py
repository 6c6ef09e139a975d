"""How well the ABCD method closes on background."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.abcd import Abcd
from hepdecorr.validation.plots.style import figure, look, styled


@styled
def abcd_closure(scans: Mapping[str, Abcd], *, within: float = 0.1) -> Figure:
    """Predicted over observed background in region A, above, and signal's share in it, below.

    scans: tagger -> closure at cuts of rising rejection. within: the band of closures that is shaded.
    """
    if not scans:
        raise InputError("abcd_closure: no tagger given; measure one with measures.abcd")
    drawn = figure(5.4, 5.0)
    above, below = drawn.subplots(2, sharex=True, height_ratios=(2, 1))
    above.axhspan(1 - within, 1 + within, color="0.9", zorder=-2)
    above.axhline(1, color="0.4", linewidth=0.9, linestyle=(0, (4, 3)))
    for number, (name, scan) in enumerate(scans.items()):
        style = look(number)
        share = np.array([one.background_efficiency for one in scan.regions])
        closure = [one.closure for one in scan.regions]
        errors = np.array([[c.value - c.low, c.high - c.value] for c in closure]).T
        above.errorbar(share, [c.value for c in closure], yerr=errors, marker="o", label=name, **style)
        below.plot(share, [one.signal_efficiency for one in scan.regions], marker="o", **style)
    below.set_xscale("log")
    below.set_xlabel("Background efficiency of region A")
    above.set_ylabel("Predicted / observed")
    below.set_ylabel("Signal efficiency")
    above.legend(loc="best")
    return drawn
