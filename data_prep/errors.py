"""What this package says when a person's file or setting is at fault."""

from __future__ import annotations


class DataError(ValueError):
    """A source, a setting or a prepared data set cannot be used as it is; the message says what would be right."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        #: the setting that is at fault, where it is one
        self.key = key


class PreparationStoppedError(Exception):
    """`should_stop` said yes: nothing was published, and preparing again starts cleanly."""
