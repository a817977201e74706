"""Three services, of which one request fails and all the others do not: `python -m examples.checkout`."""
