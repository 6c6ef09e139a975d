"""Both ways through a tagger with group codes: from events to codes, and from codes back to features."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdecorr.columnar import onnx_graph, onnx_session
from hepdecorr.columnar.group_codes import GroupCodes, OnnxGroupEncoder
from hepdecorr.columnar.onnx_graph import OnnxGraph
from hepdecorr.errors import InputError

DECODER_FILE = "decoder.onnx"
INSTANCE_OUTPUTS = ("instance", "instance_log_var")
BATCH_SIZE = 16_384

Floats = NDArray[np.float32]


class OnnxGroupModel:
    """The graphs of a tagger in its folder: what its events and codes are to each other.

    gives_instances, decodes: whether it tells of events apart from their group, and makes features of codes.
    InputError for a tagger that knows no groups.
    """

    def __init__(self, folder: Path | str, *, batch_size: int = BATCH_SIZE) -> None:
        self.folder = Path(folder)
        self.graph = OnnxGraph(self.folder, batch_size=batch_size)
        self.card = self.graph.card
        if self.card.context is None:
            raise InputError(f"tagger {self.card.name}: it is told of no groups, so it has no codes of them")
        self._group_encoder = OnnxGroupEncoder(
            self.folder, self.card, sha256=self.graph.sha256, batch_size=batch_size
        )
        self._decoder = self._open_decoder() if (self.folder / DECODER_FILE).is_file() else None

    @property
    def has_instance_codes(self) -> bool:
        """Whether the graph gives the codes of events."""
        return set(INSTANCE_OUTPUTS) <= set(self.card.outputs)

    @property
    def has_decoder(self) -> bool:
        """Whether there is a decoder."""
        return self._decoder is not None

    @property
    def decoded_features(self) -> list[str]:
        """The features that the decoder makes, in their order."""
        return [str(name) for name in self.card.metrics.get("encoded_features", self.card.feature_names)]

    def group_codes(self, x: NDArray[Any], ids: NDArray[Any]) -> GroupCodes:
        """Codes of whole groups, from all of their events: features (n, width) and ids (n,)."""
        return self._group_encoder.pool_sums(self._group_encoder.sum_member_rows(x, ids))

    def instance_codes(self, x: NDArray[Any], group_code: NDArray[Any]) -> tuple[Floats, Floats]:
        """Means and logarithms of the variances of the events' codes, (n, d_v) each.

        x (n, width); code (n, d_u), of each one's group, which need not be its mean.
        """
        given = {"features": np.asarray(x, np.float32), "context": np.asarray(group_code, np.float32)}
        mean, log_var = self.graph.run(given, INSTANCE_OUTPUTS)
        return mean, log_var

    def decode(self, group_code: NDArray[Any], instance_code: NDArray[Any]) -> Floats:
        """Features (n, f), as `represented` names them, of codes (n, d_u) and (n, d_v)."""
        if self._decoder is None:
            raise InputError(
                f"{self.folder / DECODER_FILE}: no such file; this tagger makes no features of codes"
            )
        given = {
            "group": np.asarray(group_code, np.float32),
            "instance": np.asarray(instance_code, np.float32),
        }
        size, rows = self.graph.batch_size, len(group_code)
        found = [np.zeros((0, len(self.decoded_features)), np.float32)]
        for start in range(0, rows, size):
            part = {name: values[start : start + size] for name, values in given.items()}
            (some,) = self._decoder.run(["features"], onnx_graph.pad_to_registers(part))
            found.append(some[: min(size, rows - start)])
        return np.concatenate(found)

    def _open_decoder(self) -> Any:
        content, source = onnx_session.read_model(self.folder / DECODER_FILE)
        return onnx_session.get_session(hashlib.sha256(content).hexdigest(), content, source)
