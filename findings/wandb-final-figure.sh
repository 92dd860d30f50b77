#!/usr/bin/env bash
# The figure that is set for a run at its end is the one that its table shows. Guess: run.summary, set after the last log(), stays.
#
# Seen (wandb 0.31.0, offline): after log({"loss": ...}, step=...) and then run.summary.update({"loss": ...}), the figure that was set
# is not the run's: with `step=` the last row is held back until finish(), and only then overwrites it with the last loss logged.
# Who sets the loss of the best weights, or a final evaluation, under a name that was also logged, ranks runs by another figure.
# What helps: commit=True on the last row (the second run here), or a name of its own for the final figure.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check wandb==0.31.0
cd "$work"
export WANDB_MODE=offline WANDB_SILENT=true WANDB_ERROR_REPORTING=false
for commit in default True; do
    "$work/venv/bin/python" - "$commit" <<'PY'
import sys

import wandb

options = {"commit": True} if sys.argv[1] == "True" else {}
run = wandb.init(project="p", id=f"commit-{sys.argv[1]}")
for step, loss in enumerate((3.0, 2.0, 1.0)):
    run.log({"loss": loss}, step=step, **options)
run.summary.update({"loss": 9.0})
run.finish()
wandb.teardown()
PY
done
"$work/venv/bin/python" - <<'PY'
import json
import struct
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record


def records(content):
    """Of the file that `wandb sync` uploads: LevelDB's log format behind a header of 7 bytes."""
    part, at = b"", 7
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        part, at = part + content[at + 7 : at + 7 + length], at + 7 + length
        if kind in {1, 4}:
            yield Record.FromString(part)
            part = b""


def final(name):
    (path,) = Path("wandb").glob(f"offline-run-*-{name}/*.wandb")
    updates = [u for r in records(path.read_bytes()) for u in r.summary.update]
    return [json.loads(u.value_json) for u in updates if "loss" in (u.key, *u.nested_key)][-1]


seen = {name: final(name) for name in ("commit-default", "commit-True")}
print(f"summary set to 9 after a last loss of 1: {seen}")
assert seen == {"commit-default": 1, "commit-True": 9}, "it has changed"
PY
echo "as described"
