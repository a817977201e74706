"""Leaves a task behind that nothing can end."""

from __future__ import annotations

import ctypes


def keep_forever(task: object) -> None:
    """Keep a task from being destroyed, at the end of the process too.

    Python destroys a suspended coroutine by an exception that it throws into it. One that catches everything goes on
    then, without its event loop: in a later test that did nothing wrong, and perhaps for ever.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
