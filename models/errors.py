"""What this package says when a person's setting or file is at fault, and when training cannot go on."""

from __future__ import annotations


class ConfigError(ValueError):
    """A setting is impossible; the message begins with its dotted key and says what would be right."""


class StateError(ValueError):
    """A training state does not belong to this model, optimizer or data."""


class NotFinite(FloatingPointError):
    """NaN or infinity where there must be numbers, found first at `step` in the tensor `tensor`."""

    def __init__(self, message: str, *, step: int, tensor: str) -> None:
        self.step = step
        self.tensor = tensor
        super().__init__(message)
