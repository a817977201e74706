#!/usr/bin/env bash
# Expected: a mock with the spec of an object takes the names and signatures from its class, and leaves the object alone.
# Happens: `create_autospec(client)` and `patch.object(shop, "client", autospec=True)` read every attribute of the real
#     object, properties included. A property that connects, loads or counts does so, and what it raises is raised by
#     the line that makes the mock. Before Python 3.13 `Mock(spec=client)` reads them too. With the class as spec, and
#     with `wraps=`, nothing is read.
# Why it matters: the mock that was meant to keep a test from the network opens the connection. The test then fails
#     where there is no network, or passes slowly where there is. Give the class: `create_autospec(Client,
#     instance=True)`.
# Source: unittest/mock.py, create_autospec (getattr(spec, entry)) and, up to 3.12, NonCallableMock._mock_add_spec.
set -euo pipefail
case $(python3 -c 'import sys; print(sys.version_info >= (3, 13))') in
True) SPEC="made, connections: 0" ;;
*) SPEC="ConnectionError, connections: 1" ;;
esac
EXPECTED="create_autospec(client): ConnectionError, connections: 1
patch.object(shop, 'client', autospec=True): ConnectionError, connections: 1
Mock(spec=client): $SPEC
Mock(wraps=client): made, connections: 0
Mock(spec=Client): made, connections: 0
create_autospec(Client, instance=True): made, connections: 0"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/program.py" <<'PROGRAM'
from types import SimpleNamespace
from unittest.mock import Mock, create_autospec, patch

connections = []


class Client:
    @property
    def connection(self):
        connections.append(self)
        raise ConnectionError("refused")

    def send(self, order):
        self.connection.send(order)


client = Client()
shop = SimpleNamespace(client=client)


def patched():
    with patch.object(shop, "client", autospec=True):
        pass


def report(label, make):
    connections.clear()
    try:
        make()
        outcome = "made"
    except ConnectionError as error:
        outcome = type(error).__name__
    print(f"{label}: {outcome}, connections: {len(connections)}")


report("create_autospec(client)", lambda: create_autospec(client))
report("patch.object(shop, 'client', autospec=True)", patched)
report("Mock(spec=client)", lambda: Mock(spec=client))
report("Mock(wraps=client)", lambda: Mock(wraps=client))
report("Mock(spec=Client)", lambda: Mock(spec=Client))
report("create_autospec(Client, instance=True)", lambda: create_autospec(Client, instance=True))
PROGRAM
output=$(python3 "$work/program.py")
python3 --version
echo "$output"
[ "$output" = "$EXPECTED" ] || { echo "this has changed: mocks read other attributes of what they replace"; exit 1; }
