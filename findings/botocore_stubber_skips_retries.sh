#!/usr/bin/env bash
# Expected: an error that botocore's Stubber is told to return goes the way of an error of the service: a throttled
#     request is sent again, as the client's `retries` ask for.
# Happens: the Stubber answers before the request is sent, above the code that retries. Each stubbed error is the final
#     one, and the next stubbed answer is for the next call. An answer put in at the event `before-send` is retried.
# Why it matters: a test that stubs ThrottlingException sees the caller fail, and goes on to prove that its own retry
#     around the client works. In production each of those tries is several requests, and the error is not seen when
#     one of them succeeds.
# Source: botocore/stub.py, Stubber._get_response_handler (registered for `before-call`); botocore/client.py,
#     BaseClient._make_api_call (a handler's answer replaces Endpoint.make_request, which retries).
set -euo pipefail
VERSION=1.44.8
EXPECTED="Stubber, throttled twice: ThrottlingException, then ThrottlingException, then 1 table
before-send, throttled twice: 1 table after 3 answers"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "botocore==$VERSION" 2>/dev/null
cat >"$work/program.py" <<'PROGRAM'
import json

import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber

THROTTLED = (400, {"__type": "ThrottlingException", "message": "slow down"})
TABLES = (200, {"TableNames": ["orders"]})


def new_client():
    return botocore.session.get_session().create_client(
        "dynamodb", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="y",
        config=Config(retries={"mode": "standard", "total_max_attempts": 3}),
    )


def outcome(client):
    try:
        return f"{len(client.list_tables()['TableNames'])} table"
    except ClientError as error:
        return error.response["Error"]["Code"]


client = new_client()
with Stubber(client) as stubber:
    for _ in range(2):
        stubber.add_client_error("list_tables", "ThrottlingException", http_status_code=400)
    stubber.add_response("list_tables", TABLES[1])
    first, second, third = outcome(client), outcome(client), outcome(client)
print(f"Stubber, throttled twice: {first}, then {second}, then {third}")

client = new_client()
answers = [THROTTLED, THROTTLED, TABLES]
given = []


def answer(request, **kwargs):
    status, body = answers[len(given)]
    given.append(status)
    response = AWSResponse(request.url, status, {"Content-Type": "application/x-amz-json-1.0"}, None)
    response._content = json.dumps(body).encode()
    return response


client.meta.events.register("before-send.dynamodb", answer)
print(f"before-send, throttled twice: {outcome(client)} after {len(given)} answers")
PROGRAM
output=$(AWS_EC2_METADATA_DISABLED=true AWS_CONFIG_FILE=/dev/null "$work/venv/bin/python" "$work/program.py")
echo "botocore $VERSION"
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: botocore treats stubbed errors differently"; exit 1; }
