"""Taggers that go on from another one are trained after it, and anew when it changes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hepdecorr.errors import InputError
from hepdecorr.workflow import train_jobs, warm_start


def config(base: Path, **start: str) -> Any:
    return SimpleNamespace(taggers={k: {"start_from": v} if v else {} for k, v in start.items()}, base=base)


def test_a_tagger_waits_for_what_it_goes_on_from(tmp_path: Path) -> None:
    made = config(tmp_path, last="tuned", tuned="plain", plain="", other="elsewhere/{seed}")
    jobs = [("last", 1), ("tuned", 1), ("plain", 1), ("other", 1), ("plain", 2)]
    waves = list(train_jobs.split_by_dependency(jobs, made, tagger_of=lambda job: job[0]))
    assert waves == [[("plain", 1), ("other", 1), ("plain", 2)], [("tuned", 1)], [("last", 1)]]
    # One whose origin is not to be trained now waits for nobody.
    assert list(train_jobs.split_by_dependency(jobs[:1], made, tagger_of=lambda job: job[0])) == [jobs[:1]]
    assert train_jobs.find_parent_tagger(made, "tuned") == "plain"
    assert train_jobs.find_parent_tagger(made, "other") == ""
    for name in made.taggers:
        warm_start.check_start_from(made, name)


def test_what_there_is_nothing_to_go_on_from_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'plan' is no tagger of this config; did you mean 'plain'\?, and"):
        warm_start.check_start_from(config(tmp_path, tuned="plan", plain=""), "tuned")
    circle = config(tmp_path, one="two", two="one")
    with pytest.raises(
        InputError, match="one goes on from two goes on from one; one of them must begin anew"
    ):
        warm_start.check_start_from(circle, "one")


def test_the_weights_of_a_path_decide(tmp_path: Path) -> None:
    folder = tmp_path / "vae-3"
    folder.mkdir()
    (folder / "weights.npz").touch()
    (tmp_path / "{here}").symlink_to(tmp_path)
    for path in ("vae-3", "vae-{seed}", "{here}/vae-{seed}", "vae-3/weights.npz"):
        made = config(tmp_path, tuned=path)
        warm_start.check_start_from(made, "tuned")
        assert train_jobs.list_weight_files(made, "tuned", seed=3) != []
        assert (
            train_jobs.list_weight_files(made, "tuned", seed=3)[0].resolve()
            == (folder / "weights.npz").resolve()
        )
    assert train_jobs.list_weight_files(config(tmp_path, tuned="vae-{seed}"), "tuned", seed=4) == []
    assert train_jobs.list_weight_files(config(tmp_path, tuned="plain", plain=""), "tuned", seed=3) == []
