"""Both ways through a tagger with group codes: from events to codes, and from codes back to features."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar import inputs, sessions
from hepdecorr.columnar.graphs import Graph
from hepdecorr.columnar.groups import GroupCodes, Pooling
from hepdecorr.errors import InputError

DECODER = "decoder.onnx"
INSTANCE = ("instance", "instance_log_var")
BATCH = 16_384

Floats = NDArray[np.float32]


class GroupDecoding:
    """The graphs of a tagger in its folder: what its events and codes are to each other.

    gives_instances, decodes: whether it tells of events apart from their group, and makes features of codes.
    InputError for a tagger that knows no groups.
    """

    def __init__(self, folder: Path | str, *, batch_size: int = BATCH) -> None:
        self.folder = Path(folder)
        self.graph = Graph(self.folder, batch_size=batch_size)
        self.card = self.graph.card
        if self.card.context is None:
            raise InputError(f"tagger {self.card.name}: it is told of no groups, so it has no codes of them")
        self._pooling = Pooling(self.folder, self.card, sha256=self.graph.sha256, batch_size=batch_size)
        self._decoder = self._opened() if (self.folder / DECODER).is_file() else None

    @property
    def gives_instances(self) -> bool:
        """Whether the graph gives the codes of events."""
        return set(INSTANCE) <= set(self.card.outputs)

    @property
    def decodes(self) -> bool:
        """Whether there is a decoder."""
        return self._decoder is not None

    @property
    def represented(self) -> list[str]:
        """The features that the decoder makes, in their order."""
        return [str(name) for name in self.card.measured.get("represents", self.card.feature_names)]

    def codes(self, x: NDArray[Any], ids: NDArray[Any]) -> GroupCodes:
        """Codes of whole groups, from all of their events: features (n, width) and ids (n,)."""
        return self._pooling.pool(self._pooling.summed(x, ids))

    def instances(self, x: NDArray[Any], code: NDArray[Any]) -> tuple[Floats, Floats]:
        """Means and logarithms of the variances of the events' codes, (n, d_v) each.

        x (n, width); code (n, d_u), of each one's group, which need not be its mean.
        """
        given = {"features": np.asarray(x, np.float32), "context": np.asarray(code, np.float32)}
        mean, log_var = self.graph.run(given, INSTANCE)
        return mean, log_var

    def decode(self, group: NDArray[Any], instance: NDArray[Any]) -> Floats:
        """Features (n, f), as `represented` names them, of codes (n, d_u) and (n, d_v)."""
        if self._decoder is None:
            raise InputError(f"{self.folder / DECODER}: no such file; this tagger makes no features of codes")
        given = {"group": np.asarray(group, np.float32), "instance": np.asarray(instance, np.float32)}
        size, rows = self.graph.batch_size, len(group)
        found = [np.zeros((0, len(self.represented)), np.float32)]
        for start in range(0, rows, size):
            part = {name: values[start : start + size] for name, values in given.items()}
            (some,) = self._decoder.run(["features"], inputs.whole_registers(part))
            found.append(some[: min(size, rows - start)])
        return np.concatenate(found)

    def _opened(self) -> Any:
        content, source = sessions.read(self.folder / DECODER)
        return sessions.session(hashlib.sha256(content).hexdigest(), content, source)
