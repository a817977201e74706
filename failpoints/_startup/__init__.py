"""The folder that `failpoints run` puts in front of PYTHONPATH."""
