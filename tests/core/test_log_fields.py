"""The fields of log records, as other tools take them, and the events of an OpenTelemetry span."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from failpoints import Call, Print, configured, failpoint, failpoint_scope, resume, wait_until_paused
from failpoints._core.log import logger

FIELDS = ["failpoint", "failpoint_event", "failpoint_action", "failpoint_context", "failpoint_site"]


@pytest.fixture
def logged_to() -> Iterator[Any]:
    """Return a function that adds a handler to the logger, until the end of the test."""
    handlers: list[logging.Handler] = []
    level = logger.level

    def add(handler: logging.Handler) -> None:
        logger.addHandler(handler)
        handlers.append(handler)
        logger.setLevel(logging.INFO)

    yield add
    for handler in handlers:
        logger.removeHandler(handler)
    logger.setLevel(level)


@failpoint("log.charge", context=["order", "amount"])
def charge(order: str, amount: object) -> None:
    pass


LINE = charge.__code__.co_firstlineno


def noted(record: logging.LogRecord) -> dict[str, Any]:
    return {name: vars(record)[name] for name in FIELDS if name in vars(record)}


def test_fields_of_a_hit(caplog: pytest.LogCaptureFixture) -> None:
    """A hit has the name, the event, the action, the context and the site. Objects are in it as their `repr`."""
    caplog.set_level(logging.INFO, "failpoints")
    with configured("log.charge", "1*off"):
        charge("o1", Path("x"))
        charge("o2", 2**70)
    site = f"{__file__}:{LINE}"
    expected: list[dict[str, Any]] = [
        {"failpoint": "log.charge", "failpoint_event": "configured", "failpoint_action": "1*off"},
        {
            "failpoint": "log.charge",
            "failpoint_event": "hit",
            "failpoint_action": "off",
            "failpoint_context": {"order": "o1", "amount": repr(Path("x"))},
            "failpoint_site": site,
        },
        {
            "failpoint": "log.charge",
            "failpoint_event": "hit",
            "failpoint_action": "no term applies",
            "failpoint_context": {"order": "o2", "amount": str(2**70)},
            "failpoint_site": site,
        },
        {"failpoint": "log.charge", "failpoint_event": "removed"},
    ]
    assert [noted(record) for record in caplog.records] == expected


@pytest.mark.anyio
async def test_fields_of_a_pause(caplog: pytest.LogCaptureFixture) -> None:
    """A pause and its end have the fields of the visit, and the line of an inline site or a scope."""
    caplog.set_level(logging.INFO, "failpoints")

    async def visit() -> None:
        async with failpoint_scope("log.pause", context={"shard": 3}):
            pass

    with configured("log.pause", "pause"):
        async with anyio.create_task_group() as group:
            group.start_soon(visit)
            await wait_until_paused("log.pause")
            resume("log.pause")
    line = visit.__code__.co_firstlineno + 1
    visits = [noted(record) for record in caplog.records if "failpoint_site" in vars(record)]
    assert [found["failpoint_event"] for found in visits] == ["hit", "paused", "resumed"]
    for found in visits:
        assert found == {
            "failpoint": "log.pause",
            "failpoint_event": found["failpoint_event"],
            "failpoint_action": "pause",
            "failpoint_context": {"shard": 3},
            "failpoint_site": f"{__file__}:{line}",
        }


def test_other_events(caplog: pytest.LogCaptureFixture) -> None:
    """What `print` logs, and an action that a `Call` returned, have fields, too."""
    caplog.set_level(logging.INFO, "failpoints")
    with configured("log.print", Call(lambda hit: Print("seen"))):
        failpoint("log.print").hit()
    assert [noted(record)["failpoint_event"] for record in caplog.records] == [
        "configured", "hit", "called", "print", "removed",
    ]  # fmt: skip


def test_structlog(logged_to: Any) -> None:
    """`ProcessorFormatter` of structlog writes the fields as JSON."""
    structlog = pytest.importorskip("structlog")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logged_to(handler)
    with configured("log.charge", "off"):
        charge("o1", 3)
    hit = json.loads(stream.getvalue().splitlines()[1])
    assert hit == {
        "event": "hit log.charge: off at {'order': 'o1', 'amount': 3}",
        "failpoint": "log.charge",
        "failpoint_event": "hit",
        "failpoint_action": "off",
        "failpoint_context": {"order": "o1", "amount": 3},
        "failpoint_site": f"{__file__}:{LINE}",
    }


def test_opentelemetry_logs(logged_to: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The handler of OpenTelemetry takes the fields as attributes, and warns of none."""
    logs = pytest.importorskip("opentelemetry.sdk._logs")
    export = pytest.importorskip("opentelemetry.sdk._logs.export")
    # The older name is that of the lowest version that is supported.
    kind = getattr(export, "InMemoryLogRecordExporter", None) or export.InMemoryLogExporter
    exporter = kind()
    provider = logs.LoggerProvider()
    provider.add_log_record_processor(export.SimpleLogRecordProcessor(exporter))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the handler is about to move to another package
        logged_to(logs.LoggingHandler(logger_provider=provider))
    with configured("log.charge", "off"):
        charge("o1", Path("x"))
    attributes = exporter.get_finished_logs()[1].log_record.attributes
    assert {name: attributes[name] for name in FIELDS} == {
        "failpoint": "log.charge",
        "failpoint_event": "hit",
        "failpoint_action": "off",
        "failpoint_context": {"order": "o1", "amount": repr(Path("x"))},
        "failpoint_site": f"{__file__}:{LINE}",
    }
    assert [record.message for record in caplog.records if record.name.startswith("opentelemetry")] == []


@pytest.fixture
def spans() -> Any:
    """Return an exporter, and a tracer whose spans it gets."""
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    processor = pytest.importorskip("opentelemetry.sdk.trace.export").SimpleSpanProcessor
    exporter = export.InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(processor(exporter))
    return exporter, provider.get_tracer("tests")


def test_span_events(spans: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Each visit is an event of the span that is recording, though nothing is logged."""
    exporter, tracer = spans
    caplog.set_level(logging.WARNING)
    with configured("log.charge", "off"), tracer.start_as_current_span("order"):
        charge("o1", None)
    charge("o2", 0)  # outside of the span
    (span,) = exporter.get_finished_spans()
    assert [(event.name, dict(event.attributes)) for event in span.events] == [
        (
            "failpoint hit",
            {
                "failpoint": "log.charge",
                "failpoint_event": "hit",
                "failpoint_action": "off",
                "failpoint_site": f"{__file__}:{LINE}",
                "failpoint_context.order": "o1",
                "failpoint_context.amount": "None",
            },
        )
    ]
    assert caplog.records == []


@pytest.mark.anyio
async def test_span_events_of_a_wait(spans: Any) -> None:
    """A wait is three events: the hit, its beginning and its end."""
    exporter, tracer = spans
    with configured("log.wait", "sleep(1)"), tracer.start_as_current_span("order"):
        await failpoint("log.wait")
    (span,) = exporter.get_finished_spans()
    assert [event.name for event in span.events] == ["failpoint hit", "failpoint paused", "failpoint resumed"]


def test_no_trace_is_begun() -> None:
    """A program that does not use OpenTelemetry does not import it because of a visit."""
    script = """if True:
        import sys
        from failpoints import configured, failpoint
        with configured("a", "off"):
            failpoint("a").hit()
        print(any(name.startswith("opentelemetry") for name in sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == ("False\n", "")
