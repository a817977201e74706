"""The command `failpoints`: a module for each group of verbs, and for what they show."""
