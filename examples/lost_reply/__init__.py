"""A shop that charges twice when a reply is lost, and the same shop with the bug fixed.

    python -m examples.lost_reply [--backend asyncio|trio]

The shop asks a payment service for money over HTTP, and asks again if there is no answer. If only
the *reply* was lost, the first version charges the customer twice. The second version sends an
idempotency key with every request, so the payment service recognises a repeated request.

The lost reply is a failpoint, `gateway.charge:after=1*raise(TimeoutError)`. Other ways to break it:

    FAILPOINTS='gateway.charge=1*raise(ConnectionError)'   the request is lost, and the retry helps
    FAILPOINTS='gateway.charge=raise(PaymentRefused)'      no order is paid, nothing is charged
    FAILPOINTS='gateway.charge=1*return(none)'             an order is paid but was never charged
    FAILPOINTS='gateway.record:after=1*raise(OSError)'     the payment service fails after its write
    FAILPOINTS='gateway.record:after=1*sleep(6s)'          its reply really comes too late
    FAILPOINTS='orders.commit=1*raise(OperationalError)'   charged, but the order is never paid
    FAILPOINTS='gateway.charge:after=1*raise(TimeoutError);shop.retry=return'   the shop does not retry

A second bug is a race in `stock.py`, in which two customers get the last item. This demo does not
show it: `tests/examples/test_last_item.py` provokes it, and tests the fixed version.

The failpoints are `shop.order`, `orders.commit` and `shop.retry` in `shop.py`, `stock.reserve` in
`stock.py`, `gateway.charge` in `client.py` and `gateway.record` in `gateway.py`. All of them have
an `:after`, except for the inline ones, `shop.retry` and `stock.reserve`.
"""
