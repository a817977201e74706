"""`failpoints_processes = true`: what a test sets reaches the processes that it starts, and their hits are counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from textwrap import dedent

import pytest

from tests.plugin.inner_files import RunTests
from tests.plugin.terminal import failures

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such fleets")

INI = "failpoints_processes = true"
HEAD = """\
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor

import anyio
import pytest

import failpoints as package
from work import work


def pool(method, workers=1):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method))


def in_fork(function):
    "Call a function in a forked process, and return its exit status."
    child = os.fork()
    if not child:
        function()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(code):
    return subprocess.run([sys.executable, "-c", code], timeout=50).returncode


"""
WORK = """\
    from failpoints import failpoint

    @failpoint("work", context=["number"])
    def work(number) -> int:
        return number
"""


def run_all(run_tests: RunTests, source: str, *arguments: str, ini: str = "") -> pytest.RunResult:
    return run_tests(HEAD + source, *arguments, ini=f"{INI}\n{ini}", files={"work.py": WORK})


def test_every_kind_of_process_has_what_a_test_sets(run_tests: RunTests) -> None:
    """Forked, spawned and other processes have what the test has set, and their counts are the handle's."""
    result = run_all(
        run_tests,
        """
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pool(failpoints, method):
    handle = failpoints.set("work", "return(99)", context={"number": "[1-3]"})
    with pool(method) as workers:
        assert list(workers.map(work, range(5))) == [0, 99, 99, 99, 4]
    assert (handle.hits, handle.misses, handle.triggers) == (3, 2, 3)
    assert work(1) == 99
    assert handle.hits == 4

def test_subprocess_and_fork(failpoints):
    handle = failpoints.set("work", "exit(9)")
    assert run("from work import work; work(1)") == 9
    assert in_fork(lambda: work(1)) == 9
    assert in_fork(lambda: in_fork(lambda: work(1))) == 0
    assert handle.hits == 3

@pytest.mark.failpoints({"work": "return(7)"})
def test_marker():
    assert run("import sys; from work import work; sys.exit(work(1))") == 7

def test_module(failpoints):
    package.configure("work", "return(8)")
    assert run("import sys; from work import work; sys.exit(work(1))") == 8
    package.remove("work")
    assert run("import sys; from work import work; sys.exit(work(1))") == 1

def test_nothing_is_left(failpoints):
    assert run("import sys; from work import work; sys.exit(work(1))") == 1
""",
    )
    result.assert_outcomes(passed=7)


def test_counts_are_of_all_processes_together(run_tests: RunTests) -> None:
    """`2*return` triggers twice in the process of the tests and in its children together."""
    result = run_all(
        run_tests,
        """
def test_counts(failpoints):
    handle = failpoints.set("work", "2*return(99)")
    with pool("fork", 2) as workers:
        results = [work(1), *workers.map(work, [1] * 20)]
    assert results.count(99) == 2
    assert (handle.hits, handle.triggers) == (21, 2)
    assert [in_fork(lambda: work(1)) for _ in range(2)] == [0, 0]
    again = failpoints.set("work", "1*exit(9)")
    assert [in_fork(lambda: work(1)) for _ in range(3)] == [9, 0, 0]
    assert (again.hits, again.triggers) == (3, 1)

def test_a_block_restores_what_it_replaced(failpoints):
    failpoints.set("work", "return(1)")
    with pool("fork") as workers:
        assert workers.submit(work, 0).result() == 1
        with package.configured("work", "return(2)") as inner:
            assert workers.submit(work, 0).result() == 2
            assert inner.hits == 1
        assert workers.submit(work, 0).result() == 1
        failpoints.set("work", "return(3)", context={"number": "5"})
        assert [workers.submit(work, number).result() for number in (0, 5)] == [1, 3]
        failpoints.set("work", package.Call(lambda hit: package.Return(4)), expect_hit=False)  # has no text
        assert workers.submit(work, 5).result() == 5
""",
    )
    result.assert_outcomes(passed=2)


def test_waits_and_resume(run_tests: RunTests) -> None:
    """A test waits until two tasks in two processes are paused, resumes one of them, and sees the sum of the hits."""
    result = run_all(
        run_tests,
        """
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_two(failpoints, anyio_backend):
    handle = failpoints.set("work", "pause")
    with pool("spawn", 2) as workers:
        futures = []
        for number in range(2):
            futures.append(workers.submit(work, number))
            await handle.wait_paused(number + 1, timeout=30)
        assert [each.context for each in handle.waiting] == [{"number": 0}, {"number": 1}]
        assert handle.resume(tasks=1) == 1
        assert await anyio.to_thread.run_sync(futures[0].result, 30) == 0
        assert [each.context for each in handle.waiting] == [{"number": 1}]
        assert handle.resume(context={"number": 7}) == 0
        thread = threading.Thread(target=work, args=[5])
        thread.start()
        await handle.wait_paused(2)
        assert handle.resume(tasks=1) == 1
        assert futures[1].result(30) == 1
        assert failpoints.resume("work") == 1
        thread.join(30)
        await handle.wait_hit(3)
    assert handle.hits == 3

def test_in_threads(failpoints):
    with failpoints.paused("work") as handle, pool("spawn") as workers:
        future = workers.submit(work, 1)
        handle.wait_paused_sync(timeout=30)
        assert len(handle.waiting) == 1
        handle.remove()
        assert future.result(30) == 1
    assert handle.hits == 1

def test_timeout(failpoints):
    handle = failpoints.set("work", "off")
    work(1)
    with pytest.raises(package.FailpointTimeout, match="was not hit 3 times within 0.2 s"):
        handle.wait_hit_sync(3, timeout=0.2)
""",
    )
    result.assert_outcomes(passed=4)


def test_servers_of_a_wider_scope(run_tests: RunTests) -> None:
    """A process that a fixture of the session has started has what each test sets, and nothing of the test before."""
    result = run_all(
        run_tests,
        """
SERVER = '''
import sys
from work import work
print("up", flush=True)
for line in sys.stdin:
    print(work(int(line)), flush=True)
'''

@pytest.fixture(scope="session")
def server():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SERVER], **pipes) as process:
        assert process.stdout.readline() == "up\\n"
        def ask(number):
            process.stdin.write(f"{number}\\n")
            process.stdin.flush()
            return int(process.stdout.readline())
        yield ask
        process.stdin.close()

@pytest.mark.parametrize("number", range(5))
def test_server(server, failpoints, number):
    handle = failpoints.set("work", f"1*return({number + 10})")
    assert [server(1), server(1)] == [number + 10, 1]
    assert (handle.hits, handle.triggers) == (2, 1)

def test_nothing_is_left(server, failpoints):
    assert server(1) == 1
""",
    )
    result.assert_outcomes(passed=6)


def test_verdicts(run_tests: RunTests) -> None:
    """A failpoint that no process hit fails the test, and the message has what the processes did."""
    result = run_all(
        run_tests,
        """
def test_never_hit(failpoints):
    failpoints.set("work", "return", context={"number": "7"})
    assert run("from work import work; work(1)") == 0
    assert in_fork(lambda: work(1)) == 0

def test_of_a_call(failpoints):
    failpoints.set("work", __import__("failpoints").Call(lambda hit: None))
    run("from work import work; work(1)")

def test_failing(failpoints):
    failpoints.set("work", "99%off")
    run("from work import work; work(1)")
    assert False
""",
    )
    result.assert_outcomes(failed=3)
    failed = failures(result)
    assert "hits 0, misses 2, triggers 0" in failed["test_never_hit"].text
    assert "number=1 does not match '7'" in failed["test_never_hit"].text
    never_hit = "2 started by the test; it was never hit in those that have FAILPOINTS_FLEET"
    assert never_hit in failed["test_never_hit"].text
    stayed = "those that the test started did not have it: it has no text that they could be given"
    assert stayed in failed["test_of_a_call"].text
    assert "that have FAILPOINTS_FLEET" not in failed["test_of_a_call"].text
    section = failed["test_failing"].section or ""
    assert "hits 1, misses 0" in section
    assert " repeats them, but not those of other processes.\n" in section + "\n"


def test_hypothesis(run_tests: RunTests) -> None:
    """Each example begins with counts of zero, in the other processes too."""
    result = run_all(
        run_tests,
        """
from hypothesis import given, settings, strategies as st

@pytest.mark.failpoints({"work": "1*return(99)"})
@settings(max_examples=4, deadline=None, database=None)
@given(number=st.integers(1, 50))
def test_examples(failpoints, number):
    assert in_fork(lambda: os._exit(work(number))) == 99
    assert in_fork(lambda: os._exit(work(number))) == number
    assert failpoints.handle("work").hits == 2
""",
    )
    result.assert_outcomes(passed=1)


def test_workers_of_xdist_have_fleets_of_their_own(run_tests: RunTests) -> None:
    """Under pytest-xdist, no worker meets what another one has set."""
    result = run_all(
        run_tests,
        """
@pytest.mark.parametrize("number", range(8))
def test_own(failpoints, number):
    handle = failpoints.set("work", f"return({number + 10})")
    assert run("import sys; from work import work; sys.exit(work(1))") == number + 10
    assert handle.hits == 1
""",
        "-n",
        "2",
    )
    result.assert_outcomes(passed=8)


APPLICATION = """\
    import os
    from failpoints import failpoint

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            return
        await failpoint("work", context={"number": scope["path"]})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


@pytest.mark.slow
def test_a_server_with_workers_a_pool_and_a_program(run_tests: RunTests) -> None:
    """One `set` reaches a server's workers, a pool and a program, in each worker of pytest-xdist its own ones."""
    result = run_tests(
        HEAD
        + """
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

@pytest.fixture(scope="session")
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = ["-m", "uvicorn", "service:app", "--workers", "2", "--fd", str(listening.fileno())]
        with subprocess.Popen([sys.executable, *command], pass_fds=[listening.fileno()]) as process:
            yield "http://127.0.0.1:%s" % listening.getsockname()[1]
            process.terminate()

def ask(url):
    with urlopen(url, timeout=60) as answer:
        return int(answer.read())

@pytest.mark.parametrize("worker", range(2))
def test_it(server, failpoints, worker):
    workers_seen = set()
    while len(workers_seen) < 2:  # both are up
        workers_seen.add(ask(server))
    handle = failpoints.set("work", "pause")
    with pool("spawn") as executor, ThreadPoolExecutor() as threads:
        request = threads.submit(ask, server + f"/{worker}")
        handle.wait_paused_sync(1, timeout=60)
        in_pool = executor.submit(work, 5)
        handle.wait_paused_sync(2, timeout=60)
        assert [each.context["number"] for each in handle.waiting] == [f"/{worker}", 5]
        members = [each.member.rpartition(":")[2] for each in handle.waiting]
        assert handle.resume(tasks=1) == 1
        assert request.result(60) == int(members[0])
        assert members[0] != members[1]
        assert not in_pool.done()
        assert len(handle.waiting) == 1
        program = threads.submit(run, "from work import work; work(6)")
        handle.wait_paused_sync(2, timeout=60)
        assert handle.resume() == 2
        assert (in_pool.result(60), program.result(60)) == (5, 0)
    assert handle.hits == 3
    failpoints.set("work", "off")
    assert {ask(server) for _ in range(50)} <= workers_seen
    assert failpoints.status("work").hits == 50
""",
        "-n",
        "2",
        ini=INI,
        files={"work.py": WORK, "service.py": APPLICATION},
    )
    result.assert_outcomes(passed=2)


SERVICE = """\
    import sys
    from failpoints import failpoint, failpoint_scope
    from work import work

    @failpoint("service.unused")
    def unused() -> None:
        pass

    def serve(tenant):
        for number in range(3):
            failpoint("service.handle", context={"tenant": tenant}).hit()
        with failpoint_scope("service.lock"):
            work(1)

    if __name__ == "__main__":
        serve(sys.argv[1])
"""


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_the_session_report_counts_the_processes(
    run_tests: RunTests, pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    """The report has the visits in all processes, however they end, and what the modules declare that they import."""
    result = run_tests(
        HEAD
        + """
def serve(tenant):
    return subprocess.run([sys.executable, "service.py", tenant], timeout=50).returncode

def test_service(failpoints):
    failpoints.set("service.handle", "1*print(first)->off", context={"tenant": "a"})
    failpoints.set("work", "1*exit(9)->off")
    assert [serve("a"), serve("a"), serve("b")] == [9, 0, 0]

def test_pool(failpoints):
    failpoints.set("work", "return(99)")
    with pool("spawn") as workers:
        assert list(workers.map(work, range(4))) == [99] * 4
    assert work(1) == 99

def test_fork_which_has_a_registry_of_its_own():
    def visit():
        with package.Registry() as registry:
            registry.configure("service.lock", "off")
            with package.failpoint_scope("service.lock"):
                os._exit(7)
    assert in_fork(visit) == 7
""",
        "--failpoints-report",
        "--failpoints-report-json=report.json",
        *arguments,
        ini=INI,
        files={"work.py": WORK, "service.py": SERVICE},
        environment={"COLUMNS": "300"},
    )
    result.assert_outcomes(passed=3)
    report = json.loads((pytester.path / "report.json").read_text(encoding="utf-8"))
    rows = {row.pop("name"): row for row in report["failpoints"]}
    assert {name: (row["hits"], row["misses"], row["actions"]) for name, row in rows.items()} == {
        "service.handle": (6, 3, {"off": 5, "print(first)": 1}),
        "service.lock": (1, 0, {"off": 1}),
        "service.lock:after": (0, 0, {}),
        "service.unused": (0, 0, {}),
        "service.unused:after": (0, 0, {}),
        "work": (8, 0, {"exit(9)": 1, "off": 2, "return(99)": 5}),
        "work:after": (0, 0, {}),
    }
    assert [(site["file"], site["function"]) for site in rows["service.handle"]["sites"]] == [("service.py", "serve")]
    assert [(site["file"], site["line"]) for site in rows["service.unused"]["sites"]] == [("service.py", 5)]
    assert [(site["file"], site["function"]) for site in rows["work"]["sites"]] == [("work.py", "work")]
    assert (report["processes"], report["members"]) == (5, 5)
    result.stdout.fnmatch_lines(["5 processes were started by the tests: visits are counted in 5 that imported*"])


CASES = (
    HEAD
    + """
import unittest
from failpoints.unittest import FailpointsMixin

class TestProcesses(FailpointsMixin, unittest.TestCase):
    failpoints_processes = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.workers = pool("spawn")
        cls.addClassCleanup(cls.workers.shutdown)
        cls.workers.submit(work, 0).result(50)

    def test_pool(self):
        handle = self.failpoints.set("work", "return(99)")
        self.assertEqual(self.workers.submit(work, 1).result(50), 99)
        self.assertEqual(handle.hits, 1)

    def test_never_hit(self):
        self.failpoints.set("work", "return(99)", context={"number": "7"})
        self.assertEqual(self.workers.submit(work, 1).result(50), 1)

class TestWithoutSetUpClass(FailpointsMixin, unittest.TestCase):
    failpoints_processes = True

    @classmethod
    def setUpClass(cls):
        pass

    def test_it(self):
        self.failpoints.set("work", "1*exit(9)")
        self.assertEqual([in_fork(lambda: work(1)), run("from work import work; work(1)")], [9, 0])

class TestWithout(FailpointsMixin, unittest.TestCase):
    def test_it(self):
        self.failpoints.set("work", "return(99)", expect_hit=False)
        self.assertEqual(run("import sys; from work import work; sys.exit(work(1))"), 1)
        self.assertNotIn("FAILPOINTS_FLEET", os.environ)
"""
)


@pytest.mark.parametrize("runner", ["unittest", "pytest"])
def test_a_test_case_of_unittest(pytester: pytest.Pytester, runner: str) -> None:
    """With `failpoints_processes = True` in its class, a test case has what the fixture has with the setting."""
    pytester.makepyfile(test_inner=CASES, work=dedent(WORK))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FAILPOINTS", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-m", runner, "-v", "test_inner.py"], env=clean, capture_output=True, text=True, timeout=100
    )
    output = done.stdout + done.stderr
    assert ("FAILED (failures=1)" if runner == "unittest" else "1 failed, 3 passed") in output
    assert "last miss:  number=1 does not match '7'" in output


def test_the_folder_is_removed(run_tests: RunTests, tmp_path_factory: pytest.TempPathFactory) -> None:
    """After the run the folder is gone, and the variable is what it was."""
    folder = tmp_path_factory.mktemp("temporary")
    result = run_tests("def test_nothing(failpoints): pass\n", ini=INI, environment={"TMPDIR": str(folder)}, plugins=())
    result.assert_outcomes(passed=1)
    assert list(folder.glob("failpoints-*")) == []


def test_without_the_setting(run_tests: RunTests) -> None:
    """Without it, nothing of this is imported."""
    result = run_tests(
        "import sys\ndef test_nothing(failpoints): assert 'failpoints._fleet' not in sys.modules\n", plugins=()
    )
    result.assert_outcomes(passed=1)
