"""`pytest --failpoints-explore`: runs async tests in other orders of their tasks. They need not know about failpoints."""
