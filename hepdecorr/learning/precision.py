"""What must not be done in half precision, whatever the training is told."""

from __future__ import annotations

import torch
from torch import Tensor


def in_full(t: Tensor) -> torch.autocast:
    """Within it nothing on the device of t is cast down: small differences would lose their digits."""
    return torch.autocast(t.device.type, enabled=False)
