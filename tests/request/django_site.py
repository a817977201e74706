"""A site of Django, for both kinds of middleware."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.test.utils import override_settings
from django.urls import path

from failpoints import failpoint


@failpoint("django.stock")
def stock() -> str:
    return "7"


def sync_view(request: Any) -> HttpResponse:
    return HttpResponse(stock())


async def async_view(request: Any) -> HttpResponse:
    return HttpResponse(stock())


urlpatterns = [path("sync", sync_view), path("async", async_view)]


def site() -> override_settings:
    """Return a block in which Django serves these views, whatever other tests have configured."""
    if not settings.configured:
        settings.configure()
    return override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
