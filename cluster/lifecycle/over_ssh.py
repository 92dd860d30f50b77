"""`python -m terry.cluster.lifecycle.over_ssh up|down WORKSPACE HOST [--wait]`: asked of the head's host by `up`.

HOST is what terry.yaml calls the node. What is done goes to standard error; the last word of standard output says
what came of it: `started`, `there`, `ended`, `nothing`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.lifecycle.on_head import ensure_up_on_head, take_down_on_head
from terry.cluster.lifecycle.up import USER_ERROR


def main() -> None:
    """Do it."""
    verb, root, host = sys.argv[1:4]
    workspace = WorkspacePaths(Path(root))
    try:
        if not workspace.exists:
            raise UserError(f"{root} is not there on {host}; the workspace must be on a file system that it shares")
        if verb == "up":
            started = ensure_up_on_head(workspace, wait="--wait" in sys.argv, host=host, progress=_print_notice)
            print("started" if started else "there")
        else:
            print("ended" if take_down_on_head(workspace, progress=_print_notice) else "nothing")
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(USER_ERROR)


def _print_notice(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
