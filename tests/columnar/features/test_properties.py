"""What must hold for any event: ranges, symmetries, and independence of how events are cut into chunks."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hepdecorr.columnar import features

BELLE = (0.0, 0.0, 3 / 11)
EVERY = features.GROUPS["bsgamma_all"]
# A degenerate event has several best axes, and rounding picks one.
AXIS = {"cos_tbto", "cos_tbz", "cos_toz", *features.GROUPS["cleo_cones"]}
AXIAL = [name for name in EVERY if name not in AXIS]
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

lengths = st.tuples(st.integers(2, 9), st.integers(1, 9))
component = st.one_of(st.just(0.0), st.sampled_from([-1.0, 1.0, 0.5]), st.floats(-3, 3, width=32))


@st.composite
def awkward_event(draw):
    """Zeros, equal and opposite momenta on purpose."""
    tracks, photons = draw(lengths)
    vector = st.tuples(component, component, component)
    order = draw(st.permutations(range(tracks)))
    return {
        "tracks": draw(st.lists(vector, min_size=tracks, max_size=tracks)),
        "photons": draw(st.lists(vector, min_size=photons, max_size=photons)),
        "k": order[0],
        "pi": order[1],
        "g": draw(st.integers(0, photons - 1)),
    }


@st.composite
def sizes(draw):
    return draw(st.lists(lengths, min_size=1, max_size=6))


def generics(generic, seed, listed):
    return [generic(seed + 1000 * i, tracks=t, photons=g) for i, (t, g) in enumerate(listed)]


def close(one, other, names, *, tolerance=3e-6):
    for name in names:
        # energies of several GeV in float32, and the mass of a massless rest
        room = 1e-3 if name == "m_roe" else tolerance * 10
        np.testing.assert_allclose(one[name], other[name], atol=room, err_msg=name)


@quick
@given(listed=st.lists(awkward_event(), min_size=1, max_size=5), beta=st.sampled_from([(0, 0, 0), BELLE]))
def test_any_event_gives_finite_values_in_their_ranges(made, listed, beta):
    found = features.compute(EVERY, made(listed, beta=beta))
    unit = [
        *AXIS - set(features.GROUPS["cleo_cones"]),
        *features.GROUPS["fox_wolfram"],
        "cos_theta_b",
        "cos_miss",
    ]
    for name in [*unit, "sphericity", "sphericity_roe", "thrust_b", "kaon_id"]:
        assert ((found[name] >= 0) & (found[name] <= 1)).all(), name
    for name in ("aplanarity", "aplanarity_roe"):
        assert ((found[name] >= 0) & (found[name] <= 0.5 + 1e-6)).all(), name
    for name in ("thrust_b", "thrust_o", "thrust_all"):
        assert ((found[name] == 0) | ((found[name] >= 0.5 - 1e-6) & (found[name] <= 1))).all(), name
    for name in ("cos_hel", "cos_kst_gamma"):
        assert (np.abs(found[name]) <= 1).all()
    for name, values in found.items():
        assert values.dtype == np.float32
        assert values.shape == (len(listed),)
        assert np.isfinite(values).all(), name


@quick
@given(seed=st.integers(0, 999), listed=sizes(), angle=st.floats(-3, 3))
def test_turning_about_the_beam_changes_nothing(made, generic, seed, listed, angle):
    straight = generics(generic, seed, listed)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turned = [e | {"tracks": e["tracks"] @ turn.T, "photons": e["photons"] @ turn.T} for e in straight]
    one, other = (features.compute(EVERY, made(e, beta=BELLE)) for e in (straight, turned))
    close(one, other, AXIAL)
    close(one, other, ["cos_tbto", "cos_tbz", "cos_toz"], tolerance=1e-5)


@quick
@given(seed=st.integers(0, 999), listed=sizes())
def test_the_order_of_particles_means_nothing(made, generic, seed, listed):
    given_events = generics(generic, seed, listed)
    shuffled = []
    for i, event in enumerate(given_events):
        rng = np.random.default_rng(i)
        t, g = rng.permutation(len(event["tracks"])), rng.permutation(len(event["photons"]))
        columns = {name: event[name][t] for name in ("tracks", "mass", "charge", "pdgId")}
        places = {
            "k": np.argsort(t)[event["k"]],
            "pi": np.argsort(t)[event["pi"]],
            "g": np.argsort(g)[event["g"]],
        }
        shuffled.append(event | columns | {"photons": event["photons"][g]} | places)
    close(*(features.compute(EVERY, made(e, beta=BELLE)) for e in (given_events, shuffled)), EVERY)


@quick
@given(
    seed=st.integers(0, 999),
    listed=sizes(),
    beta=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
)
def test_the_frame_of_the_detector_means_nothing(made, generic, seed, listed, beta):
    """The same collision seen from detectors of any velocity."""
    events = generics(generic, seed, listed)
    close(*(features.compute(EVERY, made(events, beta=b)) for b in ((0, 0, 0), beta)), EVERY, tolerance=1e-5)


@quick
@given(seed=st.integers(0, 999), listed=sizes(), cut=st.integers(0, 6))
def test_chunks_give_what_the_whole_gives(made, generic, seed, listed, cut):
    events = made(generics(generic, seed, listed), beta=BELLE)
    whole = features.compute(EVERY, events)
    parts = [features.compute(EVERY, part) for part in (events[:cut], events[cut:])]
    for name in EVERY:
        np.testing.assert_array_equal(whole[name], np.concatenate([p[name] for p in parts]), err_msg=name)


@quick
@given(seed=st.integers(0, 999), listed=sizes(), keep=st.lists(st.booleans(), min_size=6, max_size=6))
def test_masks_and_other_orders_give_the_same_rows(made, generic, seed, listed, keep):
    events = made(generics(generic, seed, listed), beta=BELLE)
    whole = features.compute(EVERY, events)
    for rows in (np.array(keep[: len(events)]), np.arange(len(events))[::-1], ak.Array(keep[: len(events)])):
        found = features.compute(EVERY, events[rows])
        for name in EVERY:
            np.testing.assert_array_equal(found[name], whole[name][np.asarray(rows)], err_msg=name)


@quick
@given(seed=st.integers(0, 999), scale=st.floats(1e-3, 1e3))
def test_ratios_do_not_depend_on_the_unit(made, generic, seed, scale):
    event = generic(seed, tracks=6, photons=5)
    larger = event | {"tracks": event["tracks"] * scale, "photons": event["photons"] * scale}
    names = ["thrusts", "fox_wolfram", "sphericities"]
    one, other = (features.compute(names, made([e])) for e in (event, larger))
    close(one, other, one)


def test_no_events_give_empty_columns(made, generic):
    none = made([generic(0, tracks=3, photons=2)])[:0]
    found = features.compute(EVERY, none)
    assert set(found) == set(EVERY)
    assert all(values.shape == (0,) and values.dtype == np.float32 for values in found.values())


@pytest.mark.parametrize("name", EVERY)
def test_each_feature_is_a_documented_function_of_the_events(made, forty, name):
    """The contract of the room, for every feature in it."""
    events = made(forty, beta=BELLE)
    function = features.FEATURES[name]
    alone = np.asarray(function(events))
    assert alone.shape == (len(events),)
    assert alone.dtype == np.float64
    np.testing.assert_array_equal(features.compute(name, events)[name], alone.astype(np.float32))
    assert function.__name__ == name
    assert len(function.__doc__) > 20
    described = features.describe(name)
    assert described.name == name
    assert described.title
    assert getattr(features, name) is function
