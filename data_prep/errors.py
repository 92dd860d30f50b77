"""What this package says when a person's file or setting is at fault."""

from __future__ import annotations


class DataError(ValueError):
    """A source, a setting or a prepared data set cannot be used as it is; the message says what would be right."""


class PreparationStoppedError(Exception):
    """`should_stop` said yes: nothing was published, and preparing again starts cleanly."""
