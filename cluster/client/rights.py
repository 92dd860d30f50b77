"""Who can read what in a workspace: for `doctor`, and for views, which one person's unreadable file must not break."""

from __future__ import annotations

import os
import shlex
import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from terry.cluster.client.finding import Finding
from terry.cluster.files.durable import granted_mode
from terry.cluster.files.links import owner_name, planted
from terry.cluster.files.paths import WorkspacePaths

#: So many files are looked at at most: `doctor` shall answer in seconds.
_MOST = 50_000

#: The group's bits for reading and writing.
_GROUP = 0o060


def look(workspace: WorkspacePaths) -> Iterator[Finding]:
    """For `doctor`."""
    mode = stat.S_IMODE(workspace.root.stat().st_mode)
    exposed = bool(mode & stat.S_IWOTH)
    advice = "; anybody may write here: `chmod o-w` it" if exposed else ""
    yield Finding(what="rights", good=not exposed, text=f"{workspace.root} is {mode:04o}{advice}")
    for folder in (workspace.queue, workspace.runs, workspace.datasets, workspace.sweeps):
        if folder.exists() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            yield Finding(what="rights", good=False, text=f"{folder} cannot be read and written by you")
    for found in closed(workspace):
        yield Finding(what="rights", good=False, text=found.text)
    for link in links(workspace):
        whose = owner_name(link.lstat().st_uid)
        text = f"{link} is a link that {whose} has put there: it is not followed; `rm {shlex.quote(str(link))}`"
        yield Finding(what="rights", good=False, text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What others of the group cannot read or write, of one owner and below one folder."""

    owner: str
    folder: Path  #: whose repair repairs all of it
    first: Path
    files: int

    @property
    def text(self) -> str:
        """What is wrong, and the command that repairs it."""
        many = "" if self.files == 1 else f" and {self.files - 1:,} more"
        return (
            f"{self.first}{many} cannot be read and written by the group: "
            f"{self.owner} repairs it with `chmod -R g+rwX {shlex.quote(str(self.folder))}`"
        )


def closed(workspace: WorkspacePaths) -> list[Closed]:
    """In a group's workspace, what has fewer rights than the workspace grants. Reads nothing but modes."""
    rule = workspace.root.stat().st_mode
    if not rule & stat.S_ISGID:
        return []
    found: dict[tuple[str, Path], list[Path]] = defaultdict(list)
    for path, status in _walk(workspace):
        wanted = granted_mode(status.st_mode, rule) & _GROUP
        if wanted & ~status.st_mode:
            folder = _unit(path, workspace)
            found[owner_name(status.st_uid), folder].append(path)
    return [
        Closed(owner=owner, folder=folder, first=paths[0], files=len(paths))
        for (owner, folder), paths in sorted(found.items())
    ]


def links(workspace: WorkspacePaths) -> Iterator[Path]:
    """Links that somebody else has planted where they would be followed."""
    seen = set()
    places = [workspace.inbox / name for name in ("tmp", "new", "done")]
    for top in (workspace.sweeps, workspace.runs):
        for folder in _listed(top):
            places += [folder, *(Path(entry) for entry in _listed(folder))]
    for place in places:
        link = planted(Path(place), workspace.root)
        if link is not None and link not in seen:
            seen.add(link)
            yield link


def _unit(path: Path, workspace: WorkspacePaths) -> Path:
    """The sweep's or run's folder in which it is: `chmod -R` of that is one command for all of one owner's."""
    parts = path.relative_to(workspace.root).parts
    return workspace.root.joinpath(*parts[:2])


def _walk(workspace: WorkspacePaths) -> Iterator[tuple[Path, os.stat_result]]:
    """What is in submissions, runs, data sets and the queue, but for what is private by intent and for links."""
    looked = 0
    for top in (workspace.sweeps, workspace.runs, workspace.datasets, workspace.journal, workspace.inbox):
        for here, folders, files in os.walk(top):
            for name in (*folders, *files):
                looked += 1
                if looked > _MOST:
                    return
                path = Path(here, name)
                try:
                    status = path.lstat()
                except OSError:  # gone meanwhile
                    continue
                if not stat.S_ISLNK(status.st_mode) and not name.endswith(".tmp"):
                    yield path, status


def _listed(folder: Path) -> list[Path]:
    try:
        return [] if folder.is_symlink() else sorted(folder.iterdir())
    except OSError:
        return []
