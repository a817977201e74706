"""The context of a decorated function's calls, as `context=` asks for it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType
from typing import Any, cast

from .._core.arming import copied_from, own_code
from .._core.context import Context
from .._core.functions import callable_name, signature_of
from .._core.messages import did_you_mean, safe_repr
from .._core.site import Site

_OWN_ARGUMENTS = "the call's own arguments, self included"


class CallContext:
    """Evaluates `context=` for the calls of one decorated function.

    Raises `FailpointUsageError` if `context=` is of a wrong type, or names parameters that the function does not have.
    """

    def __init__(self, function: Any, site: Site) -> None:
        self._site = site
        self._function = function
        self._receiver: tuple[Any, ...] = ()
        self._signature = _signature_of_parameters(function, site)

    def replace_function(self, function: Any) -> None:
        """Use another function of the same name from now on: its code was replaced, by a reloader for example."""
        self._function = function
        if self._signature is not None:
            self._signature = signature_of(function)

    def bound_to(self, receiver: Any) -> CallContext:
        """Return the context of the calls of this function once it is bound to an object, or to none."""
        bound = copy.copy(self)
        bound._receiver = () if receiver is None else (receiver,)  # noqa: SLF001 - a copy of this object
        return bound

    def of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Context:
        """Return the context of a call with the arguments as the caller wrote them."""
        args = (*self._receiver, *args)
        if self._signature is None:
            return self._site.context_of(_OWN_ARGUMENTS, *args, **kwargs)
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:  # a wrapper whose __wrapped__ takes other arguments
            return {}
        bound.apply_defaults()
        values = {**kwargs, **bound.arguments}
        return {name: values[name] for name in self._site.context if name in values}

    def of_values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Context:
        """Return the context of a call of which only each parameter's value is known.

        Some values may be defaults that the caller did not write. A callable `context=` is called without them if it
        can be.
        """
        if callable(self._site.context):
            wanted = signature_of(self._site.context)
            for written in self._possible_arguments(args, kwargs):
                try:
                    wanted.bind(**written)
                except TypeError:
                    continue
                return self._site.context_of(_OWN_ARGUMENTS, **written)
        return self.of_call(args, kwargs)

    def _possible_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the values by parameter: first without those that are defaults, then all."""
        code = own_code(self._function)
        names = code.co_varnames[: code.co_argcount]
        if len(args) > len(names):
            return
        values = dict(zip(names, args, strict=True)) | kwargs
        positional: tuple[Any, ...] = self._function.__defaults__ or ()
        defaults = dict(zip(reversed(names), reversed(positional), strict=False))
        defaults |= self._function.__kwdefaults__ or {}
        yield {name: value for name, value in values.items() if name not in defaults or value is not defaults[name]}
        yield values

    def needs_only_values(self) -> bool:
        """Return whether the values of the parameters are enough, however the caller wrote them."""
        context = self._site.context
        if context is None or isinstance(context, Mapping):
            return True
        if hasattr(self._function, "__signature__"):
            return False
        given = self._function
        while (original := copied_from(given)) is not None:  # under other failpoints, which also have a __wrapped__
            given = original
        if hasattr(given, "__wrapped__"):
            return False
        return not callable(context) or _takes_first_parameters(context, own_code(self._function))


def _takes_first_parameters(context: Callable[..., Any], code: CodeType) -> bool:
    """Return whether a callable has the first parameters of the function with this code, by the same names."""
    try:
        parameters = signature_of(context).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    keyword_only = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    first = list(names[: min(len(positional), code.co_argcount)])
    return positional == first and keyword_only <= set(names) and len(positional) + len(keyword_only) == len(parameters)


def _signature_of_parameters(function: Any, site: Site) -> inspect.Signature | None:
    """Return the signature in which `context=["parameter", …]` finds its values; `None` for any other context."""
    context = site.context
    if context is None or isinstance(context, Mapping) or callable(context):
        return None
    if isinstance(context, str) or not isinstance(context, Sequence):
        hint = f"; did you mean [{context!r}]?" if isinstance(context, str) else ""
        raise site.usage_error(
            "context= must be a mapping, a callable that returns one, or a list of parameter names;"
            f" got {safe_repr(context)}{hint}"
        )
    try:
        signature = signature_of(function)
    except (TypeError, ValueError) as error:
        raise site.usage_error(f"context= names parameters, but {error}; pass a callable") from None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        return signature
    for parameter in cast(Sequence[object], context):
        if parameter not in signature.parameters:
            known = ", ".join(signature.parameters) or "none"
            raise site.usage_error(
                f"context= names {parameter!r}, which is not a parameter of {callable_name(function)} (it has: {known})"
                f"{did_you_mean(str(parameter), signature.parameters)}"
            )
    return signature
