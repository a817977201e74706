"""The state that the tasks of a scenario share: what `run.shared` and `run.observe` were given."""
