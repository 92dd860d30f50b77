"""A user's own code behind `entrypoint:`, as it was at submission.

Copied are the module that the entry point names and all that it imports from the same folder, found by reading the
`import` statements (nothing is run). What is installed, or imported by a name made up at run time, is not copied.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from terry.cluster.errors import UserError

_LIMIT_FILES = 2000
_LIMIT_BYTES = 20_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """Python files below one folder."""

    root: Path
    files: tuple[Path, ...]  #: relative to root, sorted

    @property
    def sha256(self) -> str:
        """Hash of names and contents; empty where there is no code of the user's own."""
        if not self.files:
            return ""
        digest = hashlib.sha256()
        for file in self.files:
            content = (self.root / file).read_bytes()
            digest.update(f"{file.as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()

    def copy(self, target: Path) -> None:
        """Copy the files below `target`."""
        for file in self.files:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / file, target / file)


def find(entrypoint: str, folders: list[Path]) -> Source:
    """The code of `package.module:function` in the first of the folders that has it; none where none does.

    Raises UserError for code that is not Python, lacks the function, or is too large to be copied.
    """
    module, _, function = entrypoint.partition(":")
    root = next((folder for folder in folders if _top(folder, module.split(".")[0])), None)
    if root is None:
        if importlib.util.find_spec(module.split(".")[0]) is None:
            places = " and ".join(str(folder) for folder in dict.fromkeys(folders))
            top = module.split(".")[0]
            raise UserError(f"entrypoint {entrypoint}: there is no module {top!r}: not installed, and not in {places}")
        return Source(folders[0], ())
    entry = _module_file(root, module)
    if entry is None:
        raise UserError(f"entrypoint {entrypoint}: there is no module {module} in {root}")
    if not _defines(entry, function):
        raise UserError(f"entrypoint {entrypoint}: no function or class {function!r} is defined there", file=entry)
    return Source(root, tuple(sorted(_followed(root, module.split(".")[0]))))


def _top(root: Path, name: str) -> bool:
    return (root / f"{name}.py").is_file() or (root / name).is_dir()


def _module_file(root: Path, module: str) -> Path | None:
    base = root.joinpath(*module.split("."))
    candidates = (base.with_name(base.name + ".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _defines(file: Path, name: str) -> bool:
    for node in ast.walk(_parsed(file)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == name:
            return True
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return True
        if isinstance(node, (ast.ImportFrom, ast.Import)) and any((a.asname or a.name) == name for a in node.names):
            return True
    return False


def _followed(root: Path, first: str) -> set[Path]:
    """Files of the top-level module `first` and of all that is imported from `root`."""
    files: set[Path] = set()
    todo, done, size = [first], set[str](), 0
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        for path in _files(root, name):
            files.add(path.relative_to(root))
            size += path.stat().st_size
            if len(files) > _LIMIT_FILES or size > _LIMIT_BYTES:
                raise UserError(
                    f"the code around {first!r} in {root} is too large to be copied: put it in a folder of its own"
                )
            todo.extend(_imports(path))
    return files


def _files(root: Path, name: str) -> Iterator[Path]:
    if (root / f"{name}.py").is_file():
        yield root / f"{name}.py"
    elif (root / name).is_dir():
        yield from (p for p in sorted((root / name).rglob("*.py")) if "__pycache__" not in p.parts)


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise UserError(f"not valid Python: {error.msg}", file=file, line=error.lineno) from None
    except ValueError as error:
        raise UserError(f"not valid Python: {error}", file=file) from None
