"""Groups and instances kept apart: what a tagger with group codes infers, and how well it translates.

Notation of the Context-Aware Variational Autoencoder's paper (1, 4): a group i has a code u_i, inferred from
all of its events; each event k an instance code v_ik, inferred from the event and u_i; a decoder makes the
event's features of both.  Every error is one of a bootstrap of groups, since events of a group go together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hepdecorr.errors import InputError
from hepdecorr.validation.measures.numbers import ONE_SIGMA, Array, Indices, Measured

REPLICAS = 200


class Normal(NamedTuple):
    """Normal densities with independent dimensions, one a row: both (n, d)."""

    mean: Array
    log_var: Array

    def take(self, rows: Indices) -> Normal:
        """Those of some rows."""
        return Normal(self.mean[rows], self.log_var[rows])

    def draw(self, random: np.random.Generator) -> Array:
        """One value of each, (n, d)."""
        return np.asarray(self.mean + np.exp(0.5 * self.log_var) * random.standard_normal(self.mean.shape))

    def log_density(self, values: Array) -> Array:
        """Logarithm of each row's density at `values` (n, d), (n,)."""
        square = np.square(values - self.mean) * np.exp(-self.log_var)
        return np.asarray(-0.5 * (square + self.log_var + np.log(2 * np.pi)).sum(axis=1))

    def divergence(self) -> Array:
        """KL divergence from a unit normal, nats, (n,) (Kingma and Welling, 1312.6114, appendix B)."""
        return np.asarray(0.5 * (np.square(self.mean) + np.exp(self.log_var) - 1 - self.log_var).sum(axis=1))


Encode = Callable[[Indices, Array], Normal]  # events by number (n,), code of each one's group (n, d_u)
Decode = Callable[[Array, Array], Array]  # group codes (n, d_u), instance codes (n, d_v) -> features (n, f)
Process = Callable[[Array, Array], Array]  # true group variables (n, t), true instance variables (n, s)


@dataclass(frozen=True)
class Inferred:
    """Events of whole groups, and what one tagger makes of them.

    x: (n, f), raw.  group: (n,), numbers from 0.  code: q(u|x) of each group.  encode: q(v|x, u) of some of
    the events, told a code for each; None for a tagger that gives no instance codes.  decode: mean of
    p(x|u, v), raw; None for a tagger without a decoder.  variance: (f,), of p(x|u, v), raw.  scale: (f,), in
    units of which errors of features are counted.  by_class: p(v) is one for each class, and not the unit
    Gaussian.  InputError where they do not fit.
    """

    x: Array
    group: Indices
    code: Normal
    encode: Encode | None = None
    decode: Decode | None = None
    variance: Array | None = None
    scale: Array | None = None
    by_class: bool = False

    def __post_init__(self) -> None:
        groups = len(self.code.mean)
        if len(self.x) != len(self.group) or not len(self.x):
            raise InputError(f"{len(self.x)} rows of features and {len(self.group)} group numbers; give both")
        if not np.array_equal(np.unique(self.group), np.arange(groups)):
            raise InputError(
                f"group numbers must be 0 to {groups - 1}, as there are {groups} codes, each used"
            )
        for name, values in (("features", self.x), ("group codes", self.code.mean)):
            if bad := int(np.count_nonzero(~np.isfinite(values))):
                raise InputError(f"{name}: {bad} values are not finite; look for inputs outside their range")

    @property
    def groups(self) -> int:
        """How many."""
        return len(self.code.mean)

    @property
    def counts(self) -> Array:
        """Events of each group, (groups,)."""
        return np.bincount(self.group).astype(np.float64)

    def drawn(self, *, samples: bool, seed: int) -> tuple[Array, Array]:
        """Codes u (groups, d_u) and v (n, d_v): drawn, u and then v given that u, or their means."""
        random = np.random.default_rng(seed)
        u = self.code.draw(random) if samples else self.code.mean
        posterior = self.instances(u)
        return u, posterior.draw(random) if samples else posterior.mean

    def instances(self, u: Array) -> Normal:
        """q(v|x, u) of all events, told codes u (groups, d_u)."""
        return self.encoded(np.arange(len(self.x)), u[self.group])

    def encoded(self, rows: Indices, u: Array) -> Normal:
        """q(v|x, u) of some events, told a code for each; InputError where there are no instance codes."""
        if self.encode is None:
            raise InputError(
                "this tagger gives no instance codes; all but probes of the group code need them"
            )
        return self.encode(rows, u)

    def decoded(self, u: Array, v: Array) -> Array:
        """Features of codes, InputError without a decoder."""
        if self.decode is None:
            raise InputError("this tagger has no decoder; reconstruction and translation need one")
        return self.decode(u, v)


def of_units(top: Array, bottom: Array, *, replicas: int = REPLICAS, seed: int = 0) -> Measured:
    """sum(top) / sum(bottom), both (units,), with the interval of a Poisson bootstrap of the units.

    Units are groups, or sets of groups that have something in common (Chamandy et al. 2012).
    """
    value = float(top.sum() / bottom.sum())
    weight = _drawn_again(len(top), replicas, seed)
    below = weight @ bottom
    drawn = (weight @ top)[below > 0] / below[below > 0]
    if not len(drawn):
        return Measured(value, np.nan, np.nan)
    low, high = np.quantile(drawn, [0.5 - ONE_SIGMA / 2, 0.5 + ONE_SIGMA / 2]) - np.mean(drawn)
    return Measured(value, value + float(low), value + float(high), float(np.std(drawn)))


@lru_cache(maxsize=4)
def _drawn_again(units: int, replicas: int, seed: int) -> Array:
    """How often each unit is in each replica, (replicas, units); the same for all figures of a tagger."""
    return np.random.default_rng(seed).poisson(1.0, size=(replicas, units)).astype(np.float64)


def in_groups(values: Array, group: Indices, groups: int) -> Array:
    """Sums of the values (n,) over each group, (groups,)."""
    return np.bincount(group, weights=values, minlength=groups).astype(np.float64)


def reconstruction(one: Inferred, *, samples: bool = True, seed: int = 0) -> Measured:
    """Mean squared error of x against the decoder's mean, over features and events.

    samples: of u and v drawn from their posteriors, as the authors reconstruct; else of their means.
    """
    u, v = one.drawn(samples=samples, seed=seed)
    error = _squares(one.x - one.decoded(u[one.group], v), one.scale)
    return of_units(in_groups(error, one.group, one.groups), one.counts, seed=seed)


class Partners(NamedTuple):
    """To which other group each group is translated, (groups,), and the unit that the pair belongs to.

    Units are pairs that translate to each other, and one set of three where the number is odd: no group is in
    two of them, so that their errors are independent of each other.
    """

    target: Indices
    unit: Indices


def partners(groups: int, *, seed: int = 0) -> Partners:
    """Groups put together at random; InputError for fewer than two."""
    if groups < 2:
        raise InputError(f"{groups} groups: translation is from one group to another; give at least two")
    order = np.random.default_rng(seed).permutation(groups)
    position = np.arange(groups)
    unit = np.minimum(position // 2, groups // 2 - 1)
    following = np.where(position + 1 < groups, position + 1, 0)
    last = np.flatnonzero(np.append(unit[1:] != unit[:-1], True))
    first = np.append(0, last[:-1] + 1)
    following[last] = first
    target, units = np.empty_like(order), np.empty_like(order)
    target[order], units[order] = order[following], unit
    return Partners(target, units)


class Translated(NamedTuple):
    """Events of a source group with the group code of a target: by the tagger, and by the true process.

    Both (n, f); target: (n,), the group each event was translated to.
    """

    made: Array
    true: Array
    target: Indices


def translate(
    one: Inferred,
    process: Process,
    *,
    group_truth: Array,
    instance_truth: Array,
    pairs: Partners | None = None,
    samples: bool = True,
    seed: int = 0,
) -> Translated:
    """Each event with its own v and the u of another group, decoded, and what the process would have made.

    group_truth: (groups, t), instance_truth: (n, s), as `process` takes them, one row an event.  (5.1): v
    from q(v_i|x_i), u from q(u_j|x_j); truth f(u_j, v_i) without noise.  samples: both drawn, as there; else
    the means.
    """
    random = np.random.default_rng(seed)
    pairs = pairs or partners(one.groups, seed=seed)
    u = one.code.draw(random) if samples else one.code.mean
    posterior = one.instances(u)
    v = posterior.draw(random) if samples else posterior.mean
    target = pairs.target[one.group]
    true = process(group_truth[target], instance_truth)
    return Translated(one.decoded(u[target], v), true.reshape(len(true), -1), target)


def translation_error(one: Inferred, translated: Translated, pairs: Partners, *, seed: int = 0) -> Measured:
    """Mean squared error of a translation against the true one, over features and events (5.1)."""
    error = _squares(translated.made - translated.true, one.scale)
    unit = pairs.unit[one.group]
    units = int(pairs.unit.max()) + 1
    return of_units(in_groups(error, unit, units), np.bincount(unit).astype(np.float64), seed=seed)


def _squares(difference: Array, scale: Array | None) -> Array:
    """Mean over features, (n,), in units of `scale`."""
    scaled = difference if scale is None else difference / scale
    return np.asarray(np.square(scaled).mean(axis=1))
