"""A generation that was interrupted goes on with the jobs that it has, whatever the sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import pytest

from hepdecorr.samples import bsgamma, find_sample, jets, read_provenance
from hepdecorr.samples.bsgamma import production as bsgamma_production
from hepdecorr.samples.jets import production as jets_production
from hepdecorr.samples.production import Job, Yield

Load = Callable[[Path], ak.Array]

CASES = [
    ("jets", "w", jets_production, {"options": jets.Options(mpi=False)}, 10),
    ("bsgamma", "signal", bsgamma_production, {"options": bsgamma.Options(compact=True)}, 250),
]


@pytest.mark.usefixtures("pythia")
@pytest.mark.parametrize(
    ("sample", "process", "production", "arguments", "size"), CASES, ids=lambda x: str(x)[:7]
)
def test_only_the_missing_jobs_are_done(
    sample: str,
    process: str,
    production: Any,
    arguments: dict[str, Any],
    size: int,
    tmp_path: Path,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[int] = []
    run = production.run

    def counted(job: Job) -> Yield:
        done.append(job.number)
        return run(job)

    def interrupt(events: int) -> None:
        if events >= 2 * size:
            raise KeyboardInterrupt

    monkeypatch.setattr(production, "run", counted)
    asked = {"events": 3 * size, "job_events": size, "seed": 5, **arguments}
    generate = find_sample(sample).generate
    whole = generate(process, out=tmp_path / "whole.root", **asked)
    assert done == [1, 2, 3]
    out = tmp_path / "again.root"
    with pytest.raises(KeyboardInterrupt):
        generate(process, out=out, **asked, progress=interrupt)
    assert not out.exists()
    assert done == [1, 2, 3, 1, 2]
    again = generate(process, out=out, **asked)
    assert done == [1, 2, 3, 1, 2, 3]
    assert again.cutflow == whole.cutflow
    one, other = load(out), load(whole.out)
    assert all(ak.array_equal(one[name], other[name], dtype_exact=True) for name in other.fields)
    assert read_provenance(out) == read_provenance(whole.out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.root", "whole.root"]
