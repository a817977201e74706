"""The modules that visits need while something is configured, and that `import failpoints` leaves out."""

from __future__ import annotations

from .locks import ForkSafeLock

# A fork waits for it: a child could never import what another thread of its parent had begun to import.
_importing = ForkSafeLock(held_while_forking=True)
_done = False


def import_for_visits() -> None:
    """Import them, before something is configured for the first time.

    Their first import must not come in the middle of a visit or in a signal handler. anyio is imported already, but
    looks for most of its names when they are first used.
    """
    global _done
    if _done:
        return
    with _importing.lock:
        import decimal
        import json
        import random

        from anyio import Event, create_task_group, get_current_task, lowlevel, move_on_after

        _ = decimal, json, random, Event, create_task_group, get_current_task, lowlevel, move_on_after
        _done = True
