"""The verbs of the command `failpoints`."""
