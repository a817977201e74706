"""`pytest --failpoints-explore`: runs the async tests of a suite, which need not know failpoints, in other orders."""
