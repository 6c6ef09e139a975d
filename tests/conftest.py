"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# A machine that is busy with something else is no fault of the code.
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")
