"""Jets of an event as a group: what one jet cannot tell, the others of its event can."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
import pytest
from coffea.nanoevents import BaseSchema

import hepdecorr.columnar
from hepdecorr.catalogue import load_file
from hepdecorr.columnar import objects
from hepdecorr.columnar.features import compute
from hepdecorr.columnar.tagger import OnnxTagger

EVENT = ("run", "luminosityBlock", "event")
FEATURES = ("FatJet.tau1", "FatJet.tau2", "FatJet.tau3")


@pytest.fixture(scope="module")
def making() -> ModuleType:
    return load_file(Path(__file__).parents[1] / "making.py")


@pytest.mark.parametrize("leading", [None, 1])
def test_jets_of_an_event(
    making: ModuleType, files: dict[str, Path], opened: Any, tmp_path: Path, leading: int | None
) -> None:
    about = {"collection": "FatJet", "puppi": "auto"} | ({"leading": leading} if leading else {})
    made = making.grouped_model(tmp_path / "model", of=EVENT, features=FEATURES, objects=about)
    tagger = OnnxTagger(made)
    raw = opened(files["pfnano_raw"])
    codes = tagger.codes(raw)
    rows = objects.rows(raw, about)
    columns = compute(FEATURES, rows)
    known = tagger.pool(tagger.summed_rows(tagger.stack(columns), tagger.group_ids(rows)))
    np.testing.assert_array_equal(codes.mean, known.mean)
    counts = np.minimum(ak.to_numpy(ak.num(raw["FatJet"])), leading or 99)
    assert len(codes) == np.count_nonzero(counts)  # an event without jets is no group
    np.testing.assert_array_equal(np.sort(codes.counts), np.sort(counts[counts > 0]))
    fileset = {"jets": [str(files["pfnano_raw"])]}
    for chunksize in (3, 10**6):
        found = hepdecorr.columnar.group_codes(fileset, tagger, schema=BaseSchema, chunksize=chunksize)
        np.testing.assert_array_equal(found.ids, codes.ids)
        np.testing.assert_array_equal(found.mean, codes.mean)
    logits = tagger.logit(raw, groups=codes)
    assert ak.num(logits).tolist() == ak.num(raw["FatJet"]).tolist()  # all jets are scored
    every = objects.rows(raw, {**about, "leading": None} if leading else about)
    given = tagger.inputs(every, groups=codes)
    np.testing.assert_array_equal(given["context"], codes.of(tagger.group_ids(every)))
    np.testing.assert_array_equal(tagger.logits(given), ak.to_numpy(ak.flatten(logits)))
