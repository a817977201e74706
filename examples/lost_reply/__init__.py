"""A shop that charges twice when a reply is lost, and the same shop put right.

    python -m examples.lost_reply [--backend asyncio|trio]

The shop asks a payment service over HTTP for the money, and asks again when the answer fails to
come. If only the *reply* was lost, the first version pays with the customer's money twice. The
second version sends an idempotency key with every request, by which the payment service knows a
request that it has served already.

The lost reply is a failpoint, `gateway.charge:after=1*raise(TimeoutError)`. Other ways to break it:

    FAILPOINTS='gateway.charge=1*raise(ConnectionError)'   the request is lost, the retry helps
    FAILPOINTS='gateway.charge=raise(PaymentRefused)'      no order is paid, nothing is charged
    FAILPOINTS='gateway.charge=1*return(none)'             an order is paid that was never charged
    FAILPOINTS='gateway.record:after=1*raise(OSError)'     the payment service fails after its write
    FAILPOINTS='gateway.record:after=1*sleep(6s)'          its reply really comes too late
    FAILPOINTS='orders.commit=1*raise(OperationalError)'   charged, but the order is never paid
    FAILPOINTS='gateway.charge:after=1*raise(TimeoutError);shop.retry=return'   it does not retry

A second bug, found and put right in the same way, is a race: two customers get the last item. It is
in `stock.py`, no part of this demo, and `tests/examples/test_last_item.py` makes it happen.

The failpoints are `shop.order`, `orders.commit` and `shop.retry` in `shop.py`, `stock.reserve` in
`stock.py`, `gateway.charge` in `client.py` and `gateway.record` in `gateway.py`; all but the inline
`shop.retry` and `stock.reserve` have an `:after`.
"""
