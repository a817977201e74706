"""`pytest --failpoints-explore`: runs async tests in other orders of their tasks, which need not know of failpoints."""
