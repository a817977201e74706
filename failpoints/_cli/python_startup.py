"""What `failpoints run` gives a program so that each Python process in it obeys, whether or not it imports the package.

The folder `failpoints/_startup`, in front of PYTHONPATH, contains the module `sitecustomize`, which Python imports when
it starts.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence

_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_startup")
_INTERPRETER = re.compile(r"(python|pypy)[\d.]*w?(\.exe)?", re.IGNORECASE)
_CUT_OFF = "IES"  # the options of Python with which it ignores PYTHONPATH, or `sitecustomize`


def with_startup(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the program that replaces this process, and its Python children, obey."""
    folders = environment.get("PYTHONPATH", "")
    if folders.split(os.pathsep)[0] != _FOLDER:
        folders = f"{_FOLDER}{os.pathsep}{folders}" if folders else _FOLDER
    return {**environment, "PYTHONPATH": folders, "FAILPOINTS_RUN": str(os.getpid())}


def startup_problem(command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Return why Python, started with this command, will not import the module `sitecustomize`; `None` if it will."""
    if os.pathsep in _FOLDER:
        return f"the folder of failpoints cannot be on PYTHONPATH, because of the {os.pathsep!r} in {_FOLDER}"
    if os.path.basename(command[0]) == "opentelemetry-instrument":
        return (
            "opentelemetry-instrument puts another sitecustomize first, which hands over to none;"
            " write opentelemetry-instrument failpoints run … -- COMMAND"
        )
    for arguments in (command, _shebang(command[0], environment)):
        option = _cut_off(arguments)
        if option:
            return f"{os.path.basename(arguments[0])} -{option} does not look into PYTHONPATH for sitecustomize"
    return None


def _shebang(program: str, environment: Mapping[str, str]) -> list[str]:
    """Return the command in the first line of a script, or an empty list."""
    file = shutil.which(program, path=environment.get("PATH"))
    try:
        with open(file or program, "rb") as script:
            line = script.readline(1000) if script.read(2) == b"#!" else b""
    except (OSError, ValueError):
        return []
    words = line.decode(errors="replace").split()
    return words[2 if words[1:2] == ["-S"] else 1 :] if words and os.path.basename(words[0]) == "env" else words


def _cut_off(arguments: Sequence[str]) -> str | None:
    if not arguments or not _INTERPRETER.fullmatch(os.path.basename(arguments[0])):
        return None
    return next((option for option in _options(arguments[1:]) if option in _CUT_OFF), None)


def _options(arguments: Sequence[str]) -> Iterator[str]:
    """Yield each option of one letter that is given to Python itself."""
    words = iter(arguments)
    for word in words:
        if word == "--check-hash-based-pycs":
            next(words, None)
        elif not word.startswith("--") and word.startswith("-") and len(word) > 1:
            for position, letter in enumerate(word[1:], start=2):
                yield letter
                if letter in "cm":  # what follows belongs to the program
                    return
                if letter in "WX":
                    if position == len(word):
                        next(words, None)
                    break
        else:
            return
