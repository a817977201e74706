#!/usr/bin/env bash
# Expected: an instrumentor's uninstrument() removes the wrapper that its instrument() put there, or does nothing.
# Happens: it removes the outermost wrapper that wrapt made, whoever made it. If another tool wrapped the same method
#     later, that tool's wrapper disappears without an error, and OpenTelemetry's stays. The next instrument() adds a
#     second one, so each request is recorded twice.
# Why it matters: fault injection wraps the same methods of the same clients. A fixture that uninstruments between
#     two tests takes the injected failure with it, so the test passes without having failed anything. Undo wrappers
#     in the reverse order of their making, and check that the injected failure was hit.
# Source: opentelemetry/instrumentation/utils.py, unwrap (looks at the type of the attribute, not at its owner);
#     opentelemetry/instrumentation/httpx/__init__.py, HTTPXClientInstrumentor._uninstrument.
set -euo pipefail
VERSION=0.66b2
EXPECTED="instrumented, then wrapped: 1 span, our wrapper ran 1 times
uninstrumented: 1 span, our wrapper ran 0 times
instrumented again: 2 spans, our wrapper ran 0 times"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "opentelemetry-instrumentation-httpx==$VERSION" \
    opentelemetry-sdk==1.45.2 httpx==0.28.1 wrapt==2.5.2 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import httpx
import wrapt
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
calls = []


def our_wrapper(wrapped, instance, args, kwargs):
    calls.append(args)
    return wrapped(*args, **kwargs)


def report(label):
    exporter.clear()
    calls.clear()
    with httpx.Client(trust_env=False) as client:
        try:
            client.get("http://127.0.0.1:1/")  # a span is recorded for a refused connection too
        except httpx.ConnectError:
            pass
    spans = len(exporter.get_finished_spans())
    print(f"{label}: {spans} span{'s' * (spans != 1)}, our wrapper ran {len(calls)} times")


instrumentor = HTTPXClientInstrumentor()
instrumentor.instrument(tracer_provider=provider)
wrapt.wrap_function_wrapper(httpx.HTTPTransport, "handle_request", our_wrapper)
report("instrumented, then wrapped")
instrumentor.uninstrument()
report("uninstrumented")
instrumentor.instrument(tracer_provider=provider)
report("instrumented again")
PROGRAM
output=$("$work/venv/bin/python" "$work/program.py")
echo "opentelemetry-instrumentation-httpx $VERSION, opentelemetry-sdk 1.45.2, httpx 0.28.1, wrapt 2.5.2"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: uninstrument() treats the wrappers of others differently"; exit 1; }
