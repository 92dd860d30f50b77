"""Runs chosen by their settings: `exclude:` of a sweep and `members:` of an ensemble. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from terry.cluster.config.yaml_file import Document


class Exclusions:
    """`sweep.exclude`: runs that match every key of an entry are left out."""

    def __init__(self, entries: list[dict[str, Any]], document: Document) -> None:
        self._document = document
        self._entries = [Query(entry) for entry in entries]
        self._hits = [0] * len(entries)

    def match(self, config: dict[str, Any]) -> bool:
        """True where some entry leaves the run out."""
        for i, entry in enumerate(self._entries):
            if entry.match(config):
                self._hits[i] += 1
                return True
        return False

    def unused(self) -> list[str]:
        """A line for each entry that excluded nothing: most often a slip."""
        return [
            f"{self._document.file}:{self._document.line(('sweep', 'exclude', i))}: this exclusion matches no run"
            for i, hits in enumerate(self._hits)
            if not hits
        ]


class Query:
    """Settings by which runs are chosen, by dotted keys; a list of values matches any of them."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._wanted = [(tuple(key.split(".")), value) for key, value in settings.items()]

    def match(self, config: Mapping[str, Any]) -> bool:
        """True where a resolved configuration has all the settings."""
        return all(_matches(look_up(config, path), wanted) for path, wanted in self._wanted)


def _matches(actual: Any, wanted: Any) -> bool:
    return bool(actual == wanted or (isinstance(wanted, list) and not isinstance(actual, list) and actual in wanted))


def look_up(config: Any, path: Iterable[str]) -> Any:
    """The value at a path of nested mappings; None where there is none."""
    for part in path:
        config = config.get(part) if isinstance(config, Mapping) else None
    return config
