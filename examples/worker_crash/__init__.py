"""Jobs that charge twice when a worker dies, and the same jobs with the bug fixed.

    python -m examples.worker_crash [--rq]

Two worker processes take jobs from a queue. Each job charges for an order. A job that is not
finished in time comes back, because its worker may have died. If the worker died after it had
*charged*, but before it could say so, the first version charges the customer twice. The second
version sends an idempotency key with every charge, so the bank recognises a repeated one.

The queue is a SQLite database. With --rq it is rq, on a redis-server that the demo starts.

One worker dies by a failpoint of the whole fleet, `job.bill:after=1*exit(9)`: it happens once in all
workers together, and the worker that is started in its place goes on. Other ways to break it:

    FAILPOINTS='job.bill=1*exit(9)'                        a worker dies before the charge: nothing is lost
    FAILPOINTS='job.bill:after=2*exit(9)'                  two workers die
    FAILPOINTS='job.bill:after=exit(9)'                    every worker dies, until no job has attempts left
    FAILPOINTS='bank.charge:after=1*raise(TimeoutError)'   the reply of the bank is lost: also charged twice
    FAILPOINTS='bank.charge=raise(TimeoutError)'           no order is charged
    FAILPOINTS='queue.finish=1*exit(9)'                    a worker dies a little later, but not with --rq
    FAILPOINTS='queue.take:after=1*sleep(5s)'              the job comes back while its worker is only slow

The failpoints are `job.bill` in `billing.py`, `bank.charge` in `bank.py`, and `queue.take` and
`queue.finish` in `jobs.py`. All of them have an `:after`.
"""
