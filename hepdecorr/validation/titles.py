"""Names of scores as people read them: of 'TAGGER.kl', a further score of one network, 'TAGGER: KL'."""

from __future__ import annotations

import re

# What graphs of autoencoders give; other names stand as they are.
SCORES = {
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
SIGNS = {r"\to": "→", r"\rightarrow": "→", r"\gamma": "γ", r"\mu": "μ", r"\tau": "τ", r"\bar": ""}


def words(title: str) -> str:
    """A title with mathtext as a page shows it: 'H → hh (20 GeV)' of '$H \\to hh$ (20 GeV)'."""
    text = re.sub(r"[${}]", "", title)
    return re.sub(r"\\[a-z]+", lambda found: SIGNS.get(found[0], found[0][1:]), text)


def tagger_of(name: str) -> str:
    """The tagger that gives a score: TAGGER of TAGGER.NAME, or the name itself."""
    tagger, dot, last = name.rpartition(".")
    return tagger if dot and last in SCORES else name


def titled(name: str) -> str:
    """The name for figures and tables."""
    tagger = tagger_of(name)
    return name if tagger == name else f"{tagger}: {SCORES[name.rpartition('.')[2]]}"
