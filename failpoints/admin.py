"""The control plane: configure, watch and resume failpoints over HTTP (extra `http`)."""

from ._http.app import admin_app

__all__ = ["admin_app"]
