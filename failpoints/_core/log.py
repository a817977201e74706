"""The logger that this package uses."""

from __future__ import annotations

import logging
from typing import Final

logger: Final = logging.getLogger("failpoints")
