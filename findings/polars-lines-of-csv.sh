#!/usr/bin/env bash
# A reader of tables reads a table or says that it cannot. Guess: a CSV file with the line ends of old Macs gives its rows.
#
# Seen (polars 2.1.0): read_csv of "id,body\r1,one\r2,two\r" gives no rows, and columns named by the whole file, without a word;
# scan_csv, too. Python's csv module reads two rows. Spreadsheets on a Mac still write such files ("CSV (Macintosh)"), and a
# pipeline trains on nothing, or on what else is in the folder. A row that is too short is filled up with nulls, and counts.
# What helps: compare the rows with the line ends of any kind, or read by the csv module, as data_prep/tables does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0
cd "$work"
"$work/venv/bin/python" - <<'PY'
import csv
from pathlib import Path

import polars as pl

path = Path("old-mac.csv")
path.write_bytes(b"id,body\r1,one\r2,two\r")
with path.open(newline="") as file:
    rows = list(csv.DictReader(file))
read, scanned = pl.read_csv(path), pl.scan_csv(path).collect()
print(f"csv module: {len(rows)} rows; read_csv: {len(read)} rows of {read.columns}; scan_csv: {len(scanned)} rows")
Path("short.csv").write_text("id,body,score\n1,one\n2,two,3\n")
short = pl.read_csv("short.csv")
print(f"a short row: {short.rows()}")
assert len(rows) == 2 and len(read) == len(scanned) == 0, "files with CR line ends are read now"
assert short.rows()[0] == (1, "one", None), "short rows are told now"
PY
echo "as described"
