"""The logger of everything that this package logs."""

from __future__ import annotations

import logging
from typing import Final

logger: Final = logging.getLogger("failpoints")
