"""Reads the file of an offline run of W&B: records of LevelDB's log format, each a message of their own schema."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

_HEADER, _BLOCK = 7, 32768


def _records(content: bytes) -> list[bytes]:
    found: list[bytes] = []
    part, at = b"", _HEADER
    while at + 7 <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:
            found.append(part)
            part = b""
    return found


def read(path: Path) -> dict[str, Any]:
    """History (rows), summary, config and name of the run."""
    from wandb.proto.wandb_internal_pb2 import Record

    seen: dict[str, Any] = {"history": [], "summary": {}, "config": {}, "name": "", "exit": None}
    for data in _records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            seen["name"], seen["project"] = record.run.display_name, record.run.project
            seen["config"] |= {
                u.key or "/".join(u.nested_key): json.loads(u.value_json) for u in record.run.config.update
            }
        elif kind == "history":
            items = record.history.item
            seen["history"].append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
        elif kind == "summary":
            seen["summary"] |= {
                u.key or "/".join(u.nested_key): json.loads(u.value_json) for u in record.summary.update
            }
        elif kind == "exit":
            seen["exit"] = record.exit.exit_code
    return seen
