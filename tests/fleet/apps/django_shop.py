"""The web program as a Django project in one file: `python django_shop.py runserver`."""

from __future__ import annotations

import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse
from django.urls import path
from shop import answer  # type: ignore[import-not-found]  # beside this file

settings.configure(DEBUG=True, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of tests")


def index(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(answer(name))


urlpatterns = [path("<name>", index)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
