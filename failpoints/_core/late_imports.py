"""The modules that visits need while something is configured, and that `import failpoints` leaves out."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import anyio

from .locks import ForkSafeLock

late_modules: Final = ["anyio.lowlevel", "decimal", "json", "random"]
"""Their names. A room above adds its own when it is imported."""

_NAMES_OF_ANYIO: Final = ("Event", "create_task_group", "get_current_task", "move_on_after")  # found when first used

# A fork waits for it: a child could never import what another thread of its parent had begun to import.
_importing = ForkSafeLock(held_while_forking=True)
_done = False


def import_for_visits() -> None:
    """Import them, before something is configured for the first time.

    Their first import must not come in the middle of a visit or in a signal handler.
    """
    global _done
    if _done:
        return
    with _importing.lock:
        for name in late_modules:
            import_module(name)
        for name in _NAMES_OF_ANYIO:
            getattr(anyio, name)
        _done = True
