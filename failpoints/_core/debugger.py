"""Stopping in a debugger at a site, and not in the code of this package that calls the debugger."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Final

from .environment import breakpoint_is_pdb
from .place import is_own, program_frame
from .reentrancy import is_called_internally
from .site import Site
from .tracebacks import one_line

_HOOK: Final = "the hook"


def stop_at(site: Site) -> None:
    """Call the debugger that `breakpoint()` would call, from a frame that is at the site.

    Every debugger stops in the frame that called it. That frame is made for the purpose. It has the file, the line and
    the variables of the program's own frame. pdb then shows that one instead, without the frames of this package.
    """
    frame = program_frame()
    code, line = frame.f_code, frame.f_lineno
    local_variables: Any = frame.f_locals
    has_begun = True
    if site.code is not None and (code.co_filename, code.co_firstlineno) != (
        site.code.co_filename,
        site.code.co_firstlineno,
    ):
        # A function that has no frame, because its body has not begun or has ended.
        code, line, local_variables, has_begun = site.code, site.code.co_firstlineno, {}, False
    hook: Callable[..., Any] = sys.breakpointhook
    if hook is sys.__breakpointhook__ and breakpoint_is_pdb():
        hook = _pdb_hook(shows_caller=not has_begun)
    exec(_calling(hook, code, line), frame.f_globals, local_variables)


def _calling(hook: Callable[..., Any], code: CodeType, line: int) -> CodeType:
    """Make code that calls the hook, and looks like the code at a line."""
    template = compile(f"{_HOOK!r}.__call__()", code.co_filename, "exec")
    return template.replace(
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_firstlineno=line,
        co_linetable=one_line(len(template.co_code) // 2),
        co_consts=tuple(hook if constant == _HOOK else constant for constant in template.co_consts),
    )


def _pdb_hook(*, shows_caller: bool) -> Callable[[], None]:
    """Return a hook that starts pdb. The frame that calls the hook is hidden, unless *shows_caller*."""
    import pdb  # noqa: T100 - imported here, because it takes time and few programs ever need it

    calling: FrameType | None = None

    class Debugger(pdb.Pdb):
        def get_stack(self, f: FrameType | None, t: Any) -> tuple[list[tuple[FrameType, int]], int]:
            stack, index = super().get_stack(f, t)
            hidden = [is_own(frame.f_code) or (frame is calling and not shows_caller) for frame, _ in stack]
            shown = [entry for entry, is_hidden in zip(stack, hidden, strict=True) if not is_hidden]
            return shown, max(0, hidden[: index + 1].count(False) - 1)

        def stop_here(self, frame: FrameType) -> bool:
            is_internal = is_own(frame.f_code) or is_called_internally(frame)
            return (frame is calling or not is_internal) and super().stop_here(frame)

        def user_return(self, frame: FrameType, return_value: Any) -> None:
            if frame is calling:
                self.user_line(frame)  # not as the return that it is before Python 3.13
            else:
                super().user_return(frame, return_value)

        def user_exception(self, frame: FrameType, exc_info: Any) -> None:
            if not is_own(frame.f_code):  # in which pdb stops for the StopIteration that ends a coroutine
                super().user_exception(frame, exc_info)

    def hook() -> None:
        nonlocal calling
        calling = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        Debugger().set_trace(calling)

    return hook
