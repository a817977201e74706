"""Switches: how a site learns that something is configured for it, without asking while nothing is.

Each name has one switch, which all its sites share. It is a dict that is empty while there is nothing to do, so an
inline site or a scope tests its own switch, and that is all. A decorated function and a wrapper do not test anything:
they are members of their switch, and are exchanged when it changes. So what is configured elsewhere costs a site
nothing, and configuring a failpoint costs the same however many other sites there are.

A `return` at a scope needs the decorated function around it to take part, whatever its name. A function that contains
a `with` statement is therefore also armed for the names among its constants. For a scope whose name is not among the
constants of its function, and for a name that no site has had so far, all such functions are armed.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from opcode import opmap
from types import CodeType
from typing import Any, Final

from . import known_sites
from .validation import is_name

ARMED: Final[dict[str, bool]] = {}
"""The names that are configured in the registries in force, each with whether it may return at a scope."""

_EVERYWHERE: Final = "everywhere, for an exploration"  # which is not a valid name
_ANYTHING: Final = "anything, for a site whose name is refused"

_WITH: Final = bytes(opmap[name] for name in ("BEFORE_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL") if name in opmap)
_ENTERING: Final = {"__enter__", "__aenter__"}

_switches: dict[str, weakref.ref[Switch]] = {}
_holders: dict[str, dict[Member, None]] = {}  # functions that may contain scopes, by the names among their constants
_all_holders: dict[Member, None] = {}
_returning: dict[str, bool] = {}  # names that may return at a scope, and whether that may be in any function
_half_settled: dict[str, None] = {}


class Switch(dict[str, None]):
    """Those of the names of a site, with and without `:after`, under which a visit has to look. Mostly empty.

    Any thread may use it. It is correct at any moment at which a signal handler or a finalizer may reconfigure: each
    step checks the actual state instead of remembering what was done.
    """

    __slots__ = ("__weakref__", "_names", "_settled", "is_of_no_name", "members")

    def __init__(self, name: str) -> None:
        self.is_of_no_name = name is _ANYTHING
        self.members: dict[Member, None] = {}
        self._names = (name, f"{name}:after")
        self._settled: bool | None = False  # the state that all members have; None while they change

    def __reduce__(self) -> tuple[Any, ...]:
        return switch_of, (self._names[0],)  # of a copied or pickled site: the switch that its name has there

    def settle(self) -> None:
        """Look what is configured, and exchange the members if that turns the switch on or off."""
        while True:
            for name in self._names:
                if name in ARMED or _EVERYWHERE in ARMED or (self.is_of_no_name and ARMED):
                    self[name] = None
                else:
                    self.pop(name, None)
            armed = bool(self)
            if self._settled is armed:
                return
            self._settled = None
            for member in list(self.members):
                member.settle()
            self._settled = armed


class Member:
    """Something that is exchanged when a failpoint is configured: a decorated function, or the flag of a wrapper.

    Args:
        thing: What is exchanged. It is not kept alive.
        exchange: Called with the thing and this, to exchange it or not, as `is_armed` is true or false.
        name: The failpoint.
        code: The code of the function that the failpoint is on, if it is written in Python.
        inner: The member for the failpoint under this one, if there is one and a call has to pass both.
    """

    __slots__ = ("_code", "_constants", "_exchange", "_thing", "switches")

    def __init__(
        self,
        thing: Any,
        exchange: Callable[[Any, Member], object],
        name: str,
        code: CodeType | None,
        inner: Member | None = None,
    ) -> None:
        self.switches: tuple[Switch, ...] = (switch_of(name), *(inner.switches if inner is not None else ()))
        self._exchange = exchange
        self._code: CodeType | None = None
        self._constants: frozenset[str] | None = None
        self._thing = weakref.ref(thing, self.forget)
        for switch in self.switches:
            switch.members[self] = None
        if code is not None:
            self.look_at(code)
        self.settle()

    @property
    def is_armed(self) -> bool:
        """Whether something is configured that concerns this."""
        return any(self.switches) or self.may_return_at_scope

    @property
    def may_return_at_scope(self) -> bool:
        """Whether a scope in the function may return from it."""
        constants = self._constants
        return constants is not None and any(
            anywhere or name in constants for name, anywhere in list(_returning.items())
        )

    def look_at(self, code: CodeType) -> None:
        """Find out which scopes may be in the function, unless that is known. A reloader may have given it this code.

        The caller of a function that is in use already holds the lock of the registries.
        """
        if code is self._code:
            return
        before = self._constants or frozenset()
        if may_contain_scope(code):
            self._constants = frozenset(each for each in code.co_consts if isinstance(each, str) and is_name(each))
            _all_holders[self] = None
            for constant in self._constants:
                _holders.setdefault(constant, {})[self] = None
        else:
            self._constants = None
            _all_holders.pop(self, None)
        self._leave(before - (self._constants or frozenset()))
        self._code = code  # last: what an exception from a signal handler has ended is done again

    def settle(self) -> None:
        """Exchange the thing if what is configured asks for it. The caller need not hold a lock."""
        thing = self._thing()
        if thing is not None:
            self._exchange(thing, self)

    def forget(
        self,
        _: object = None,
        *,
        # At the end of the process, this module may lose its names before the last function is gone.
        all_holders: dict[Member, None] = _all_holders,
    ) -> None:
        """Leave the thing as it is from now on."""
        for switch in self.switches:
            switch.members.pop(self, None)
        all_holders.pop(self, None)
        self._leave(self._constants or frozenset())

    def _leave(self, constants: frozenset[str], holders_by_name: dict[str, dict[Member, None]] = _holders) -> None:
        for constant in constants:
            holders = holders_by_name.get(constant, {})
            holders.pop(self, None)
            if not holders:
                holders_by_name.pop(constant, None)
                for late in holders:  # added in the meantime
                    holders_by_name.setdefault(constant, {})[late] = None


class Flag(dict[str, None]):
    """A dict that is empty while nothing is configured that concerns a wrapper.

    Args:
        name: The failpoint.
        code: The code of the wrapped function, if it is written in Python.
    """

    __slots__ = ("__weakref__", "_member")

    def __init__(self, name: str, code: CodeType | None) -> None:
        self._member = Member(self, Flag._exchange, name, code)

    def _exchange(self, member: Member) -> None:
        while True:
            armed = member.is_armed
            if armed:
                self["armed"] = None
            else:
                self.clear()
            if armed is member.is_armed:
                return


def switch_of(name: str) -> Switch:
    """Return the switch of a name. One that no site can have gets a switch that anything turns on: to refuse it."""
    if not is_name(name) or name.endswith(":after"):
        name = _ANYTHING
    new: Switch | None = None
    while True:
        switch = _existing(name)
        if switch is not None:
            return switch
        if new is None:
            new = Switch(name)
        if _switches.setdefault(name, weakref.ref(new, functools.partial(_forget_switch, name)))() is new:
            if ARMED:
                new.settle()
            return new


def _existing(name: str) -> Switch | None:
    """Return the switch of a name, if something keeps one alive."""
    reference = _switches.get(name)
    switch = reference() if reference is not None else None
    if reference is not None and switch is None:
        _forget_switch(name, reference)
    return switch


def _forget_switch(
    name: str, reference: weakref.ref[Switch], switches: dict[str, weakref.ref[Switch]] = _switches
) -> None:
    if switches.get(name) is reference:
        switches.pop(name, None)


def settle(name: str) -> None:
    """Turn the switches of a name on or off, as `ARMED` has it. The caller holds the lock of the registries."""
    base = name.removesuffix(":after")
    _settle_switches(base, _ANYTHING)
    _settle_holders(base)


def _settle_switches(*names: str) -> None:
    for switch in map(_existing, names):
        if switch is not None:
            switch.settle()


def arm_everything(*, armed: bool) -> None:
    """Turn all switches on, whatever is configured, or end that. The caller holds the lock of the registries."""
    if armed:
        ARMED[_EVERYWHERE] = True
    else:
        ARMED.pop(_EVERYWHERE, None)
    _settle_switches(*list(_switches))
    _settle_holders(_EVERYWHERE)


def learn_scope(name: str) -> None:
    """Arm all functions that may contain the scope *name* while it may return. The caller holds the lock."""
    known_sites.note_loose(name)
    for switch in map(_existing, list(_switches)):
        for member in [] if switch is None else list(switch.members):
            member.settle()  # which looks at the code again
    _settle_holders(name)


def _settle_holders(name: str) -> None:
    """Exchange the functions that may contain the scopes of a name, if what is configured for these has changed."""
    while True:
        before, wanted = _returning.get(name), _returns_anywhere(name)
        everyone = before or wanted or name in _half_settled
        if before is wanted and name not in _half_settled:
            return
        _half_settled[name] = None
        if wanted is None:
            _returning.pop(name, None)
        else:
            _returning[name] = wanted
        for member in list(_all_holders if everyone else _holders.get(name, ())):
            member.settle()
        _half_settled.pop(name, None)


def _returns_anywhere(name: str) -> bool | None:
    """Return whether a scope of this name may return, and that from any function; `None` if it does not return."""
    if not (ARMED.get(name) or ARMED.get(f"{name}:after")):
        return None
    return name == _EVERYWHERE or known_sites.may_be_in_any_function(name)


def may_contain_scope(code: CodeType) -> bool:
    """Return whether a function with this code may enter a scope itself."""
    opcodes = code.co_code[::2]
    return not _WITH or any(each in opcodes for each in _WITH) or not _ENTERING.isdisjoint(code.co_names)
