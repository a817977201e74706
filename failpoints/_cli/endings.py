"""Exceptions with which a verb ends the command: `main` turns each into a line on stderr and an exit status."""

from __future__ import annotations


class AnswerIsNo(Exception):
    """The program was asked, and the answer is no. The exit status is 1."""


class CannotRun(Exception):
    """A program could not be run. The exit status is the one that shells use for the reason."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status
