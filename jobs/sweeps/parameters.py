"""`parameters:` of people's own code: plain values, which are kept exactly or refused with their key. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from terry.cluster.config.yaml_file import Problem


def require_plain(value: Any, path: tuple[str, ...]) -> None:
    """Parameters are what JSON has, NaN and infinities besides. Raises Problem with the key of anything else."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                shown = json.dumps(key) if isinstance(key, (bool, int, float)) or key is None else repr(key)
                raise Problem(f"a key must be text, not {shown}: in quotes it is", (*path, str(key)))
            require_plain(item, (*path, key))
            _require_encodable(key, path)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            require_plain(item, (*path, str(i)))
    elif isinstance(value, str):
        _require_encodable(value, path)
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise Problem(f"must be text, numbers, lists or mappings, not {type(value).__name__}", path)
    elif isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
        raise Problem(f"is a whole number of {value.bit_length():,} bits; at most {_INTEGER_BITS:,} are kept", path)


#: Larger whole numbers Python itself refuses to write out.
_INTEGER_BITS = 4096


def _require_encodable(text: str, path: tuple[str, ...]) -> None:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise Problem(f"{text!a} has half of a surrogate pair, which no file can hold", path)
