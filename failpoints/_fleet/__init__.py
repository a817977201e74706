"""Many processes as one: what is configured for all of them, kept in a folder that they share."""
