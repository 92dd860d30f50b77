"""Several Unix users on a host of a bed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.testbed.beds import ROOT, Bed

COMMAND = str(Path(sys.executable).with_name("terry-cluster"))

#: The first user is member of the group `lab` as all others are. Accounts exist on this host alone.
_SETUP = """
set -e
S=$1; shift
cp /etc/passwd $S/passwd; cp /etc/group $S/group
members=
for user; do
    number=$(( 5000 + $(wc -l < $S/passwd) ))
    echo "$user:x:$number:$number::/tmp/home-$user:/bin/bash" >> $S/passwd
    echo "$user:x:$number:" >> $S/group
    members=$members${members:+,}$user
    mkdir -p /tmp/home-$user; chown $number:$number /tmp/home-$user
done
echo "lab:x:6000:$members" >> $S/group
chmod 644 $S/passwd $S/group
mount --bind $S/passwd /etc/passwd
mount --bind $S/group /etc/group
"""

#: A folder that only root may enter, with Python below it: for this host an empty one stands before it.
_OPEN = """
set -e
closed=$1; needed=$2; rest=${needed#$closed/}
mkdir -p /run/kept; mount --bind "$needed" /run/kept
mount -t tmpfs -o mode=755 tmpfs "$closed"
mkdir -p "$closed/$rest"; mount --move /run/kept "$closed/$rest" 2>/dev/null || mount --bind /run/kept "$closed/$rest"
"""


class Users:
    """Accounts on one host, and what they do."""

    def __init__(self, bed: Bed, host: str, *names: str) -> None:
        self.bed, self.host = bed, host
        self.umask = "022"  #: of all that they do
        state = bed.state / "etc" / host
        state.mkdir()
        self._must(bed.on(host, "sh", "-c", _SETUP, "sh", str(state), *names))
        for needed in {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), ROOT}:
            closed = next((p for p in [*needed.parents][::-1] if not p.stat().st_mode & 0o001), None)
            if closed is not None:
                self._must(bed.on(host, "sh", "-c", _OPEN, "sh", str(closed), str(needed)))

    @staticmethod
    def _must(done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, done.stderr

    def run(self, user: str, *command: str, timeout: float = 240.0) -> subprocess.CompletedProcess[str]:
        """A command of the user's, to its end."""
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]
        where = ["env", "-C", f"/tmp/home-{user}", f"HOME=/tmp/home-{user}", f"USER={user}"]
        masked = ["sh", "-c", 'umask "$0"; exec "$@"', self.umask]
        return self.bed.on(self.host, *become, *where, *masked, *command, timeout=timeout)

    def write(self, user: str, name: str, text: str) -> None:
        """A file in the user's home."""
        self._must(self.run(user, "sh", "-c", 'printf %s "$1" > "$2"', "sh", text, f"/tmp/home-{user}/{name}"))

    def terry(self, user: str, workspace: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """terry-cluster, called by the user."""
        done = self.run(user, COMMAND, "-w", str(workspace), *words)
        assert done.returncode == 0 or not check, (user, words, done.stdout, done.stderr, self.logs(workspace))
        return done

    def json(self, user: str, workspace: Path, *words: str) -> Any:
        """What it says with --json."""
        return json.loads(self.terry(user, workspace, "--json", *words).stdout)

    def logs(self, workspace: Path) -> str:
        """For a failed test."""
        done = self.bed.on(self.host, "sh", "-c", 'tail -n 20 "$1"/queue/cluster/*.log', "sh", str(workspace))
        return done.stdout
