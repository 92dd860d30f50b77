"""The colours of all views: legible on a dark ground and on a light one (a test measures their contrast).

Numbers are of the 256-colour palette, whose first 16 entries each terminal sets as it likes: on white, its yellow is
often next to invisible, so none of those 16 is used where a terminal has more.
"""

from __future__ import annotations

from collections.abc import Mapping

from terry.cluster.core.model import JobState

GOOD, BUSY, WARNING, BAD, GONE = "color(28)", "color(31)", "color(166)", "color(160)", "color(133)"

#: Colours of curves of several groups, in this order.
SERIES = ("color(31)", "color(166)", "color(28)", "color(133)", "color(160)", "color(136)", "color(62)", "color(30)")

#: Styles by state: alike in every view.
STATES: Mapping[JobState, str] = {
    JobState.WAITING: "dim",
    JobState.PENDING: "dim",
    JobState.HELD: WARNING,
    JobState.STARTING: BUSY,
    JobState.RUNNING: BUSY,
    JobState.STOPPING: WARNING,
    JobState.COMPLETED: GOOD,
    JobState.FAILED: f"bold {BAD}",
    JobState.CANCELLED: GONE,
}

#: For terminals of 16 colours: SGR codes of what comes nearest.
_FEW = {28: "32", 31: "36", 166: "33", 160: "31", 133: "35", 136: "33", 62: "34", 30: "36"}


def sgr(style: str, *, many: bool) -> str:
    """The style as parameters of an SGR escape sequence: `1;38;5;160`. many: the terminal has 256 colours."""
    codes = []
    for word in style.split():
        if word.startswith("color("):
            number = int(word[6:-1])
            codes.append(f"38;5;{number}" if many else _FEW[number])
        else:
            codes.append({"bold": "1", "dim": "2"}[word])
    return ";".join(codes)
