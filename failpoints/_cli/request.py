"""The verb request: signs failpoints for one request, and runs the program that sends it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from .._core.grammar import parse_entries
from ..errors import FailpointUsageError
from . import run
from .options import examples
from .output import require_output, write_lines

_PLACE = "{failpoints}"

app = typer.Typer()


@app.command(
    epilog=examples(
        "failpoints request --set 'stock.reserve=raise(TimeoutError)' -- curl http://shop.test/orders",
        "failpoints request --set mail.send=pause --audience staging -- http GET shop.test 'failpoints:{failpoints}'",
    ),
    context_settings={"allow_interspersed_args": False},
)
def request(
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=ACTIONS",
            help="Configure a failpoint for the request: NAME=ACTIONS or NAME[KEY=PATTERN,…]=ACTIONS. Can be repeated.",
            show_default=False,
        ),
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND [ARGS]", help="The program that sends the request.", show_default=False),
    ] = None,
    key: Annotated[
        str,
        typer.Option(
            "--key",
            metavar="ID:SECRET",
            envvar="FAILPOINTS_REQUEST_KEYS",
            show_envvar=False,
            show_default=False,
            help="The key that signs. Default: the first of $FAILPOINTS_REQUEST_KEYS, which other users cannot see.",
        ),
    ] = "",
    audience: Annotated[
        str, typer.Option("--audience", metavar="NAME", help="The environment.", show_default=False)
    ] = "",
    seconds: Annotated[
        int, typer.Option("--seconds", metavar="N", min=1, max=3600, help="How long the token is valid.")
    ] = 60,
    once: Annotated[bool, typer.Option("--once", help="Let each process obey the token only once.")] = False,
) -> None:
    """Send one request that brings failpoints.

    It is for services with a FailpointsMiddleware. COMMAND is curl or wget, which get the header added, or any program
    with {failpoints} in an argument, where the token is put. Without COMMAND, the header is printed.

    The program replaces this command, and the exit status is its own.
    """
    header = sign(settings, key, audience, seconds, once)
    if not command:
        require_output()
        write_lines([header])
        return
    raise typer.Exit(run.execute(with_header(command, header), os.environ))


def sign(settings: Sequence[str], key: str, audience: str, seconds: int, once: bool) -> str:
    """Return the header, as a line. Raises what `RequestFailpoints.sign` raises."""
    from .._request.policy import RequestFailpoints  # late, because itsdangerous may not be installed
    from .._request.rules import HEADER
    from .._request.tokens import parse_keys

    keys = parse_keys(key, "--key")
    if not keys:
        raise FailpointUsageError("there is no key to sign with: give --key ID:SECRET, or set FAILPOINTS_REQUEST_KEYS")
    entries = [entry for setting in settings for entry in parse_entries(setting, "--set")]
    token = RequestFailpoints(keys, audience=audience).sign(entries, seconds=seconds, once=once)
    return f"{HEADER}: {token}"


def with_header(command: Sequence[str], header: str) -> list[str]:
    """Return the command with the header in it. Raises `FailpointUsageError` if it is not known how."""
    program, *arguments = command
    token = header.partition(": ")[2]
    if any(_PLACE in argument for argument in arguments):
        return [program, *(argument.replace(_PLACE, token) for argument in arguments)]
    name = os.path.basename(program).lower().removesuffix(".exe")
    added = {"curl": ["-H", header], "wget": [f"--header={header}"]}.get(name)
    if added is None:
        raise FailpointUsageError(
            f"request knows where curl and wget take a header, but not {program!r}: put {_PLACE} where the token"
            " belongs"
        )
    return [program, *added, *arguments]
