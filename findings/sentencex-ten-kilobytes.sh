#!/usr/bin/env bash
# A sentence splitter gives the pieces of a text: joined they are the text, and paragraphs stay apart. Guess: of any size.
#
# Seen (sentencex 1.0.32): up to 10 KiB the pieces join to the text, and the empty line between two paragraphs is a piece of its
# own. A longer text is cut inside, and where it is cut the empty line is lost: of 400 paragraphs of 112 bytes 4 breaks vanish, so
# that who counts paragraphs by these pieces, or pairs them with their rows, is off by one from there on. No error, no warning.
# Which paragraphs are hit depends on the bytes before them alone. What helps: calls of less than 10 KiB, and a check that as
# many paragraphs come out as went in, as data_prep/sentences does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check sentencex==1.0.32
"$work/venv/bin/python" - <<'PY'
import sentencex


def breaks(count: int) -> tuple[int, int, bool]:
    """Bytes of a text of so many paragraphs, the paragraphs that come out, and whether the pieces join to it."""
    text = "\n\n".join(f"paragraph number {i:03} is here . it has {'x' * 60} two sentences" for i in range(count))
    pieces = sentencex.segment("en", text)
    return len(text), pieces.count("\n\n") + 1, "".join(pieces) == text


small, large = breaks(80), breaks(400)
print(f"80 paragraphs, {small[0]:,} bytes: {small[1]} come out; the pieces join to the text: {small[2]}")
print(f"400 paragraphs, {large[0]:,} bytes: {large[1]} come out; the pieces join to the text: {large[2]}")
assert small[1:] == (80, True), "small texts are read otherwise now"
assert large[1] < 400 and not large[2], "large texts are whole now"
PY
echo "as described"
