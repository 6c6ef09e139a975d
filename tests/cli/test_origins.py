"""Taggers that go on from another one are trained after it, and anew when it changes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hepdecorr.cli import origins
from hepdecorr.errors import InputError


def config(base: Path, **start: str) -> Any:
    return SimpleNamespace(taggers={k: {"start_from": v} if v else {} for k, v in start.items()}, base=base)


def test_a_tagger_waits_for_what_it_goes_on_from(tmp_path: Path) -> None:
    made = config(tmp_path, last="tuned", tuned="plain", plain="", other="elsewhere/{seed}")
    jobs = [("last", 1), ("tuned", 1), ("plain", 1), ("other", 1), ("plain", 2)]
    waves = list(origins.waves(jobs, made, tagger=lambda job: job[0]))
    assert waves == [[("plain", 1), ("other", 1), ("plain", 2)], [("tuned", 1)], [("last", 1)]]
    # One whose origin is not to be trained now waits for nobody.
    assert list(origins.waves(jobs[:1], made, tagger=lambda job: job[0])) == [jobs[:1]]
    assert origins.origin(made, "tuned") == "plain"
    assert origins.origin(made, "other") == ""
    for name in made.taggers:
        origins.check(made, name)


def test_what_there_is_nothing_to_go_on_from_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'plan' is no tagger of this config; did you mean 'plain'\?, and"):
        origins.check(config(tmp_path, tuned="plan", plain=""), "tuned")
    circle = config(tmp_path, one="two", two="one")
    with pytest.raises(
        InputError, match="one goes on from two goes on from one; one of them must begin anew"
    ):
        origins.check(circle, "one")


def test_the_weights_of_a_path_decide(tmp_path: Path) -> None:
    folder = tmp_path / "vae-3"
    folder.mkdir()
    (folder / "weights.npz").touch()
    (tmp_path / "{here}").symlink_to(tmp_path)
    for path in ("vae-3", "vae-{seed}", "{here}/vae-{seed}", "vae-3/weights.npz"):
        made = config(tmp_path, tuned=path)
        origins.check(made, "tuned")
        assert origins.content(made, "tuned", seed=3) != []
        assert origins.content(made, "tuned", seed=3)[0].resolve() == (folder / "weights.npz").resolve()
    assert origins.content(config(tmp_path, tuned="vae-{seed}"), "tuned", seed=4) == []
    assert origins.content(config(tmp_path, tuned="plain", plain=""), "tuned", seed=3) == []
