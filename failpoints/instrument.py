"""Failpoints in code that is not yours: `from failpoints.instrument import instrument`.

The environment variable `FAILPOINTS_INSTRUMENT="httpx:AsyncClient.send;sqlite3:connect"` does the same without any
code. Each path becomes a failpoint when its module is imported. Its name is the path with a dot instead of the colon
(`httpx.AsyncClient.send`).
"""

from ._instrument.instrumentation import Instrumentation, instrument

__all__ = ["Instrumentation", "instrument"]
