"""The hook for pre-commit that this repository offers."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def test_the_hook(run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook installs an extra that exists, and its command refuses a name that unrelated places share."""
    yaml = pytest.importorskip("yaml")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert {*hook} <= {
        "id", "name", "description", "entry", "args", "language", "additional_dependencies", "types", "pass_filenames",
        "require_serial",
    }  # fmt: skip
    assert (hook["language"], hook["pass_filenames"]) == ("python", False)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [name.removeprefix(".[").removesuffix("]") in extras for name in hook["additional_dependencies"]] == [True]

    command, *words = [*shlex.split(hook["entry"]), *hook["args"]]
    assert command == "failpoints"
    monkeypatch.chdir(tmp_path)
    for file in ("a.py", "b.py"):
        Path(file).write_text('from failpoints import failpoint\n@failpoint("shop.charge")\ndef charge(): ...\n')
    assert run(*words).status == 1
    Path("b.py").unlink()
    assert run(*words).status == 0
