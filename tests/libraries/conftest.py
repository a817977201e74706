"""Servers for the tests of libraries: started in a temporary folder on a free port, and ended with the session."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_it_accepts(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended at once"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.02)  # another process: there is nothing to wait for
        else:
            return
    raise AssertionError("the server does not accept connections")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    """The port of a redis-server."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until_it_accepts(port, process)
            yield port
        finally:
            stop(process)


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The address of a PostgreSQL server with an empty database."""
    initdb = max(glob.glob("/usr/lib/postgresql/*/bin/initdb"), default=shutil.which("initdb"))
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    programs = os.path.dirname(os.path.realpath(initdb))
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    parent = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        names = {entry.pw_name for entry in pwd.getpwall()}
        options["user"] = "postgres" if "postgres" in names else "nobody"
        parent = "/tmp"
    port = free_port()
    folder = tempfile.mkdtemp(dir=parent)
    try:
        if "user" in options:
            shutil.chown(folder, options["user"])
        create = [f"{programs}/initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run(create, check=True, timeout=120, cwd=folder, **options)
        settings = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
        command = [f"{programs}/postgres", "-D", f"{folder}/data", *(part for one in settings for part in ("-c", one))]
        process = subprocess.Popen(command, cwd=folder, **options)
        try:
            wait_until_it_accepts(port, process)
            dsn = f"postgres://postgres@127.0.0.1:{port}/postgres"
            is_ready = [f"{programs}/pg_isready", "-q", "-d", dsn, "-t", "60"]
            while subprocess.run(is_ready, timeout=60, check=False).returncode == 1:  # it is starting
                time.sleep(0.02)
            yield dsn
        finally:
            stop(process)
    finally:
        shutil.rmtree(folder)
