"""Objects by name, from the house or from a user's file, with errors that help."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from hepdecorr.catalogue import build, find, load_file, suggest
from hepdecorr.errors import InputError

MINE = """
class Mine:
    def __init__(self, nuisance, strength=1.0, features=0):
        self.nuisance, self.strength, self.features = nuisance, strength, features

    def double(self):
        return 2 * self.strength
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_names_of_three_kinds(mine: Path) -> None:
    assert find("Fraction", home="fractions").__name__ == "Fraction"
    assert find("fractions:Fraction", home="math").__name__ == "Fraction"
    assert find("mine.py:Mine", home="math", base=mine.parent).__name__ == "Mine"
    assert find(f"{mine}:Mine", home="math") is load_file(mine).Mine


def test_build_gives_arguments_and_context(mine: Path) -> None:
    made = build(
        {"type": f"{mine}:Mine", "nuisance": "mbc", "strength": 3.0}, home="math", features=7, unasked="x"
    )
    assert (made.nuisance, made.strength, made.features) == ("mbc", 3.0, 7)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "Fracton"}, "no 'Fracton' in fractions; did you mean 'Fraction'"),
        ({"type": "nowhere_at_all:X"}, "there is no module 'nowhere_at_all'"),
        ({"type": "absent.py:X"}, r"no file .*absent\.py"),
        ({"strength": 3}, "say what it is with 'type: NAME'"),
        (
            {"type": "MINE:Mine", "nuisance": "m", "strenght": 3},
            "Mine takes no 'strenght'; did you mean 'strength'",
        ),
        ({"type": "MINE:Mine"}, "needs 'nuisance'"),
    ],
)
def test_faults_are_named(mine: Path, spec: dict[str, object], message: str) -> None:
    spec = {k: v.replace("MINE", str(mine)) if isinstance(v, str) else v for k, v in spec.items()}
    with pytest.raises(InputError, match=message):
        build(spec, home="fractions", base=mine.parent)


def test_a_file_that_fails_is_named_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_this_name\n")
    for _ in range(2):
        with pytest.raises(InputError, match=r"broken\.py cannot be imported: ModuleNotFoundError"):
            load_file(path)
    path.write_text("value = 3\n")
    assert load_file(path).value == 3


def test_travels_by_value_to_an_interpreter_without_the_file(mine: Path, tmp_path: Path) -> None:
    made = build({"type": f"{mine}:Mine", "nuisance": "m", "strength": 4.0}, home="math")
    (tmp_path / "made.pkl").write_bytes(cloudpickle.dumps(made))
    mine.unlink()
    code = f"import pickle; print(pickle.load(open({str(tmp_path / 'made.pkl')!r}, 'rb')).double())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "8.0"


def test_input_error_survives_the_way_from_a_worker() -> None:
    again = pickle.loads(pickle.dumps(InputError("a.root: no branch 'x'")))
    assert isinstance(again, InputError)
    assert str(again) == "a.root: no branch 'x'"


def test_of_very_many_names_only_the_nearest_are_told() -> None:
    told = suggest("genWeight", [f"name_{i}" for i in range(100)] + ["genie"])
    assert "of the 101 known" in told
    assert "genie" in told
    assert len(told) < 120
    assert suggest("x", ["alpha", "beta"]) == "; known are alpha, beta"
