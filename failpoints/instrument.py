"""Failpoints in code that is not yours: `from failpoints.instrument import instrument`.

`FAILPOINTS_INSTRUMENT="httpx:AsyncClient.send;sqlite3:connect"` does it with no code at all: each path is a failpoint
by its own name, with a dot for the colon (`httpx.AsyncClient.send`), from the import of its module on.
"""

from ._instrument.instrumentation import Instrumentation, instrument

__all__ = ["Instrumentation", "instrument"]
