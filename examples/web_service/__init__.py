"""A service that sells the seats of a small theatre, for breaking while it runs.

    FAILPOINTS_HTTP=127.0.0.1:22381 uvicorn examples.web_service.app:app --port 8000

Two decorators are all that it has for tests. `tests/examples/test_web_service.py` drives it from another process with
`failpoints.client`, and docs/control-plane.md drives it by hand with the command `failpoints`:

    bookings.reserve=pause                        the next customer gets the same seat: a bug
    bookings.confirm:after=1*raise(TimeoutError)  the ticket exists, but the customer is asked to try again: a bug
    bookings.confirm=exit                         a seat without a ticket, free again after a restart: not a bug
"""
