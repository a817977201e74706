"""The page of a fleet: `failpoints page --fleet` serves it, and it acts on all members."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import httpx
import pytest

from failpoints._cli.fleet_page import ShownFleet
from failpoints.cli import main
from failpoints.fleet import Fleet
from tests.fleet.conftest import Server

ROOT = Path(__file__).parents[2]
LIMIT = 30.0
Start = Callable[..., Any]


class Page:
    """The command that serves the page, and the requests of a page that was let in."""

    def __init__(self, fleet: Path | str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "failpoints", "page", "--no-open", "--fleet", str(fleet)],
            env={**clean, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#([\w-]{43})\n", self.process.stdout.readline())
        assert found, self.process.communicate(timeout=LIMIT)
        self.url, self.ticket = found.groups()
        self.client = httpx.Client(base_url=self.url, timeout=LIMIT, trust_env=False)
        self.failpoints: dict[str, Any] = {}
        self.hello: Any = None
        self._last = ""

    def enter(self) -> httpx.Response:
        answer = self.client.post("/v1/page/session", json={"ticket": self.ticket})
        if answer.status_code == 200:
            self.client.headers["failpoints-session"] = answer.json()["session"]
        return answer

    def ask(self, verb: str, body: object) -> Any:
        answer = self.client.post(f"/v1/page/{verb}", json=body)
        assert answer.status_code == 200
        return answer.json()

    def follow(self, seen: Callable[[], Any]) -> Any:
        """Receive events until *seen* returns something true, and return that. Returns a problem, too."""
        deadline = monotonic() + LIMIT
        while not (result := seen()):
            assert monotonic() < deadline, self.failpoints
            with self.client.stream("GET", "/v1/page/events", headers={"last-event-id": self._last}) as answer:
                assert answer.status_code == 200
                kind = ""
                for line in answer.iter_lines():
                    key, _, value = line.partition(": ")
                    if key == "id":
                        self._last = value
                    elif key == "event":
                        kind = value
                    elif key == "data":
                        self._receive(kind, json.loads(value))
                        kind = ""
                    if kind == "" and (result := seen()):
                        return result
        return result

    def _receive(self, kind: str, data: Any) -> None:
        if kind:
            self.hello = data
            return
        self.failpoints |= {each["name"]: each for each in data.get("changed", ())}
        for name in data.get("removed", ()):
            del self.failpoints[name]

    def waiting(self, name: str, number: int) -> list[Any]:
        """Wait until so many wait at a failpoint, and return them."""

        def seen() -> list[Any] | None:
            waiting = self.failpoints.get(name, {}).get("waiting", [])
            return [waiting] if len(waiting) == number else None

        (waiting,) = self.follow(seen)
        return list(waiting)

    def end(self, by: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(by)
        _, errors = self.process.communicate(timeout=LIMIT)
        self.client.close()
        return self.process.returncode, errors


@pytest.fixture
def page(folder: Path) -> Iterator[Page]:
    """Serve the page of the fleet."""
    page = Page(folder)
    yield page
    if page.process.returncode is None:
        page.end(signal.SIGKILL)


def test_what_the_members_declare_is_shown(page: Page, start: Start, tmp_path: Path) -> None:
    """The page shows the failpoints of the modules that any member has imported, configured or not."""
    (tmp_path / "shop.py").write_text("from failpoints import failpoint\n\n@failpoint('order')\ndef order(): pass\n")
    start(f"sys.path.insert(0, {str(tmp_path)!r})\nimport shop\nmain()").line()
    page.enter()
    assert page.ask("configure", [{"name": "typo", "actions": "off"}]) is None
    assert page.follow(lambda: "order" in page.failpoints)
    assert {name: (each["actions"], each["sites"]) for name, each in page.failpoints.items()} == {
        "order": ("", ["shop.py:3"]),
        "order:after": ("", ["shop.py:3"]),
        "typo": ("off", []),
    }
    assert page.ask("configure", [{"name": "order", "actions": "off"}]) is None
    assert page.follow(lambda: page.failpoints["order"]["actions"] == "off")


def test_one_of_those_that_wait_is_resumed(page: Page, start: Start) -> None:
    """The page shows who waits in which member. It resumes one of them, and then all. The members have their counts."""
    members = start(count=2)
    page.enter()
    assert page.ask("configure", [{"name": "x", "actions": "pause"}]) is None
    for number, member in enumerate([*members, members[0]]):
        member.ask(f"visit_in_thread('x', order={number})")
        page.waiting("x", number + 1)
    waiting = page.waiting("x", 3)
    assert page.hello["members"] == 2
    pids = [members[0].pid, members[1].pid, members[0].pid]
    assert [(each["member"].rpartition(":")[2], each["name"], each["context"]) for each in waiting] == [
        (str(pid), f"visitor {pid}", {"order": str(number)}) for number, pid in enumerate(pids)
    ]
    assert page.ask("resume", {"name": "x", "waiter": waiting[2]["id"]}) == {"resumed": 1}
    assert page.waiting("x", 2) == waiting[:2]
    assert page.ask("resume", {"name": "x", "waiter": waiting[2]["id"]}) == {"resumed": 0}
    assert page.ask("resume", {"name": "x", "waiter": None}) == {"resumed": 2}
    page.waiting("x", 0)
    shown = page.failpoints["x"]
    assert (shown["hits"], shown["waiting_count"]) == (3, 0)
    assert {name.rpartition(":")[2]: each["hits"] for name, each in shown["members"].items()} == {
        str(members[0].pid): 2,
        str(members[1].pid): 1,
    }


def test_what_is_configured_stays_until_it_is_removed(page: Page, start: Start, folder: Path) -> None:
    """The page configures and removes in all members. After Ctrl-C, what it has configured is still there."""
    member = start()
    page.enter()
    entry = {"name": "x", "actions": "2*retrun(1)", "context_matchers": {"order": "1"}}
    problem = page.ask("configure", [entry])["msg"]
    assert problem.split("\n")[1:] == ["    2*retrun(1)", "      ^"]
    member.ask("failpoints.failpoint('x')(lambda: 1)() or 1")  # where the name of an exception is looked up
    refused = page.ask("configure", [{"name": "x", "actions": "raise(Unheard)"}])["msg"]
    assert re.match(rf"member \S+:{member.pid} refuses: .*Unheard", refused)
    assert "handle" in page.ask("configure", [{"name": "x", "actions": "off", "handle": "h"}])["msg"]
    assert member.ask("len(failpoints.statuses())") == 0
    assert page.ask("configure", [{**entry, "actions": "2*return"}, {"name": "y", "actions": "off"}]) is None
    assert member.ask("visit('x', order=1)") == ["Return(value=None)"]
    assert page.follow(lambda: page.failpoints.get("x", {}).get("hits")) == 1
    assert page.failpoints["x"]["matchers"] == {"order": "1"}
    # What the member declares comes a little later than what is configured.
    assert page.follow(lambda: set(page.failpoints) == {"x", "x:after", "y"})
    assert page.ask("remove", {"name": "y"}) is None
    assert page.follow(lambda: set(page.failpoints) == {"x", "x:after"})
    status, errors = page.end(signal.SIGINT)
    assert (status, errors) == (130, "")
    assert member.ask("visit('x', order=1)") == ["Return(value=None)"]
    again = Page(folder)
    try:
        again.enter()
        assert again.ask("remove", {"name": None}) is None
        assert member.ask("len(failpoints.statuses())") == 0
    finally:
        again.end(signal.SIGKILL)


@pytest.mark.anyio
async def test_what_is_removed_is_no_longer_shown(start: Start, folder: Path) -> None:
    """What was configured when the page asked for what is declared goes at once, unless it is declared itself."""
    start().ask("failpoints.failpoint('x')(lambda: 1)()")
    async with Fleet(folder) as fleet:
        await fleet.configure_all([("x", "off"), ("y", "off")])
        shown = ShownFleet(fleet, str(folder))
        with anyio.fail_after(LIMIT), shown.following():
            async with anyio.create_task_group() as asking:
                asking.start_soon(shown.follow_declared)
                while await shown.names() != ["x", "x:after", "y"]:
                    await anyio.sleep(0.01)
                asking.cancel_scope.cancel()
        await fleet.reset()
        assert await shown.names() == ["x", "x:after"]


@pytest.mark.slow
def test_a_fleet_on_a_server(start: Start, shared_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """The page, `watch`, `list` and `members` show what a fleet on a server has, and each change that comes."""
    url = shared_server.url()
    member = start(fleet=url)
    page = Page(url)
    command = [sys.executable, "-m", "failpoints", "watch", "--json", "--fleet", url]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAILPOINTS")}
    watch = subprocess.Popen(command, env={**clean, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    try:
        page.enter()
        assert watch.stdout
        assert json.loads(watch.stdout.readline()) == []
        assert page.ask("configure", [{"name": "x", "actions": "pause"}]) is None
        member.ask("visit_in_thread('x', order=7)")
        (waiting,) = page.waiting("x", 1)
        assert waiting["context"] == {"order": "7"}
        assert page.hello["members"] == 1
        while not (seen := json.loads(watch.stdout.readline())) or not seen[0]["waiting"]:
            pass
        assert main(["members", "--fleet", url]) == 0
        assert capsys.readouterr().out.endswith(f":{member.pid}\n")
        assert main(["list", "--json", "--fleet", url]) == 0
        (listed,) = json.loads(capsys.readouterr().out)
        for each in seen[0], listed, page.failpoints["x"]:
            assert (each["name"], each["hits"], len(each["waiting"])) == ("x", 1, 1)
        assert page.ask("resume", {"name": "x", "waiter": waiting["id"]}) == {"resumed": 1}
        page.waiting("x", 0)
        assert page.ask("remove", {"name": None}) is None
        while json.loads(watch.stdout.readline()):
            pass
    finally:
        page.end(signal.SIGKILL)
        watch.kill()
        watch.communicate(timeout=LIMIT)


def test_who_is_let_in(page: Page) -> None:
    """Only the URL that the command prints lets a page in, once. Another user of the machine gets no ticket."""
    requests = [("GET", "events"), ("POST", "configure"), ("POST", "resume"), ("POST", "remove")]
    for method, verb in requests:
        assert page.client.request(method, f"/v1/page/{verb}", json={}).status_code == 401
    answer = page.client.post("/v1/page", json={})
    assert (answer.status_code, answer.json()["msg"]) == (404, "no such path: this serves a page, and no API")
    assert page.client.get("/v1/failpoints").status_code == 404
    assert page.enter().status_code == 200
    for header in {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}:
        for method, path in [*((method, f"/v1/page/{verb}") for method, verb in requests), ("GET", "/")]:
            assert page.client.request(method, path, json={}, headers=header).status_code == 403
    for headers, status in [({"host": "evil.example"}, 421), ({"x-forwarded-for": "1.2.3.4"}, 403)]:
        assert page.client.get("/", headers=headers).status_code == status
        assert page.client.get("/v1/page/events", headers=headers).status_code == status
    assert page.enter().status_code == 401
    document = page.client.get("/")
    assert document.status_code == 200
    assert "script-src 'sha256-" in document.headers["content-security-policy"]


def test_the_folder_is_gone(page: Page, folder: Path) -> None:
    """The page is sent the reason, and then nothing: it tries again."""
    page.enter()
    page.follow(lambda: page.hello)
    shutil.rmtree(folder)
    assert "is gone" in page.follow(lambda: page.hello.get("msg"))
    assert str(folder) in page.ask("configure", [{"name": "x", "actions": "off"}])["msg"]


def test_a_folder_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that others can open is refused before anything is served."""
    tmp_path.chmod(0o755)
    assert main(["page", "--fleet", str(tmp_path)]) == 2
    assert capsys.readouterr().out == ""
