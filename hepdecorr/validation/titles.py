"""Names of scores as people read them: of 'TAGGER.kl', a further score of one network, 'TAGGER: KL'."""

from __future__ import annotations

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


def tagger_of(name: str) -> str:
    """The tagger that gives a score: TAGGER of TAGGER.NAME, or the name itself."""
    tagger, dot, last = name.rpartition(".")
    return tagger if dot and last in SCORES else name


def titled(name: str) -> str:
    """The name for figures and tables."""
    tagger = tagger_of(name)
    return name if tagger == name else f"{tagger}: {SCORES[name.rpartition('.')[2]]}"
