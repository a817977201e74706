"""A service that sells the seats of a small theatre, to break while it runs.

    FAILPOINTS_HTTP=127.0.0.1:22381 uvicorn examples.web_service.app:app --port 8000

It has nothing for tests in it but two decorators. `tests/examples/test_web_service.py` drives it from another process
with `failpoints.client`, the README by hand with the command `failpoints`:

    bookings.reserve=pause                        whoever comes meanwhile gets the same seat: a bug
    bookings.confirm:after=1*raise(TimeoutError)  there is a ticket, and the customer is told to try again: a bug
    bookings.confirm=exit                         a seat without a ticket, free again at the next start: no bug
"""
