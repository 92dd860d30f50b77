"""What time it is."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Now, aware, UTC."""
    return datetime.now(UTC)
