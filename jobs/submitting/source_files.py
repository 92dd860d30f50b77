"""What of a user's folder belongs to his code: all Python, and small files beside it; nothing secret, nothing huge."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: A file that is no code is copied up to this size, and so is a folder in which nothing is code.
SMALL_BYTES, SMALL_FILES = 1_000_000, 200

_CODE = {".py", ".pyi", ".so"}
_NO_FOLDERS = {"__pycache__", "node_modules", "site-packages"}
_NO_FILES = {".pyc", ".pyo", ".tmp", ".swp"}
_SECRET = re.compile(
    r"(^|[._-])(secrets?|credentials?|passwords?|passwd|api[._-]?keys?)([._-]|$)"
    r"|^id_(rsa|dsa|ecdsa|ed25519)|\.(pem|key|p12|pfx|ppk|kdbx|keystore)$",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Belongings:
    """Files of one folder or module, relative to its root."""

    files: list[tuple[Path, int]] = field(default_factory=list)  #: with their sizes in bytes
    left_out: list[str] = field(default_factory=list)  #: what was not taken, and why, for people


def belongings(root: Path, folder: Path) -> Belongings:
    """What of `folder`, which lies in `root`, is the user's code. Links to folders are not followed."""
    found = Belongings()
    others: list[tuple[Path, int]] = []
    for path in sorted(_walk(folder)):
        relative = path.relative_to(root)
        try:
            about = path.stat()
        except OSError:  # a link to nothing
            continue
        size = about.st_size
        if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for, for ever
            found.left_out.append(f"{relative} (no file, but a {_special(about.st_mode)})")
            continue
        if not os.access(path, os.R_OK):
            found.left_out.append(f"{relative} (it cannot be read)")
            continue
        if path.suffix in _CODE:
            found.files.append((relative, size))
        elif looks_secret(path):
            found.left_out.append(f"{relative} (its name looks like a secret's)")
        elif size > SMALL_BYTES:
            found.left_out.append(f"{relative} ({_megabytes(size)})")
        else:
            others.append((relative, size))
    if not found.files:  # no package: a folder of data that is called like one
        return Belongings()
    _add_small(found, others, folder.relative_to(root))
    return found


def _special(mode: int) -> str:
    return "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"


def looks_secret(path: Path) -> bool:
    """True for a file whose name, or that of what it is a link to, is usually that of a key or a password."""
    return any(_SECRET.search(name) for name in (path.name, path.resolve().name))


def largest(files: Iterable[tuple[Path, int]]) -> str:
    """The largest of some files, for people."""
    first = sorted(files, key=lambda file: -file[1])[:3]
    return ", ".join(f"{path} ({_megabytes(size)})" for path, size in first)


def _walk(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        place = Path(here)
        folders[:] = [name for name in folders if not _is_foreign(place / name)]
        yield from (place / name for name in files if not name.startswith(".") and Path(name).suffix not in _NO_FILES)


def _is_foreign(folder: Path) -> bool:
    """A folder of tools, of a virtual environment, or a workspace."""
    named = folder.name.startswith(".") or folder.name in _NO_FOLDERS or folder.name.endswith(".egg-info")
    return named or (folder / "pyvenv.cfg").exists() or (folder / "queue" / "journal").exists()


def _add_small(found: Belongings, others: list[tuple[Path, int]], top: Path) -> None:
    """Files that are no code: a folder full of them is data, not part of the code."""
    with_code = {parent for path, _ in found.files for parent in path.parents} | {top, *top.parents}
    groups: dict[Path | None, list[tuple[Path, int]]] = {}
    for path, size in others:
        outermost = next((p for p in reversed(path.parents) if p not in with_code), None)
        groups.setdefault(outermost, []).append((path, size))
    for folder, files in groups.items():
        size = sum(size for _, size in files)
        if folder is not None and (size > SMALL_BYTES or len(files) > SMALL_FILES):
            found.left_out.append(f"{folder} ({_megabytes(size)} in {len(files):,} files, no code)")
        else:
            found.files += files


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
