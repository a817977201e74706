"""The pytest plugin. pytest loads it wherever `failpoints` is installed.

It has

- the fixture `failpoints`, whose type is `Failpoints`, and the marker `@pytest.mark.failpoints({"name": "actions"})`,
- the options `--failpoints-seed`, `--failpoints`, `--failpoints-report`, `--failpoints-report-json`,
  `--failpoints-fail-under`, `--failpoints-explore` and `--failpoints-replay`,
- the ini settings `failpoints_strict`, `failpoints_timeout`, `failpoints_pause_limit` and `failpoints_processes`.

Where plugins are not found by themselves (`PYTEST_DISABLE_PLUGIN_AUTOLOAD=1`), `-p failpoints` loads it. The name of
this module does so too, but pytest accepts that only where it has not found the plugin by itself.
"""

from __future__ import annotations

# The plugin is a package of its own, so that pytest need not import this one if no test uses it.
from _failpoints_pytest import failpoints as failpoints
from _failpoints_pytest import pytest_addoption as pytest_addoption
from _failpoints_pytest import pytest_configure as pytest_configure

from ._plugin.fixture import Failpoints

__all__ = ["Failpoints"]
