"""Finds every folder that a crash can leave behind, and checks the program's recovery on each."""
