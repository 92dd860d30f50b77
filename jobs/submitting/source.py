"""A user's own code behind `entrypoint:`, as it was at submission.

Copied are the module that the entry point names and all that it imports from the same folder, or from packages that are
installed in a way that one can go on editing them (`pip install -e`, PYTHONPATH); found by reading the `import`
statements (nothing is run). Of a package all of its folder is copied, so modules that are imported late, by a name that
is made up, and small files are there, too (terry.jobs.submitting.source_files). What is installed for good is not
copied.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from terry.cluster.errors import UserError
from terry.jobs.submitting.source_files import Belongings, belongings, largest

_LIMIT_FILES = 2000
_LIMIT_BYTES = 20_000_000
_NAMED_MOST = 5
#: What code names that wants torch: itself, those that are built on it, and our checkpoints, which are made of tensors.
_WANTS_TORCH = re.compile(rb"torch|lightning|transformers|checkpoint|restore|terry\.(models|data_prep)")


@dataclass(frozen=True, slots=True)
class File:
    """One file of the code."""

    path: Path  #: where it is
    name: Path  #: where it belongs in the copy


@dataclass(frozen=True, slots=True)
class CodeSource:
    """A user's own code; no files where there is none."""

    files: tuple[File, ...] = ()  #: by name
    left_out: tuple[str, ...] = ()  #: what lies among the code and is not copied, for people
    sha256: str = ""  #: of names and contents

    @property
    def light(self) -> bool:
        """As far as can be seen it does without torch. A mistake costs time: it imports what it needs by itself."""
        python = [file.path for file in self.files if file.path.suffix == ".py"]
        return bool(python) and not any(_WANTS_TORCH.search(path.read_bytes()) for path in python)

    def copy(self, target: Path) -> None:
        """Copy the files below `target`. Raises UserError where they have changed since they were found."""
        for file in self.files:
            (target / file.name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.path, target / file.name)
        if _sha256(tuple(File(target / f.name, f.name) for f in self.files)) != self.sha256:
            raise UserError("the code was changed while it was being submitted: submit it again")


def find(entrypoint: str, folders: list[Path]) -> CodeSource:
    """The code of `package.module:function` in the first of the folders that has it; none where it is installed.

    Raises UserError for code that is not Python, lacks the function, or is too large to be copied.
    """
    module, _, function = entrypoint.partition(":")
    top = module.split(".")[0]
    root = next((folder for folder in folders if _has(folder, top)), None) or _editable(top)
    if root is None:
        if _spec(top) is None:
            places = " and ".join(str(folder) for folder in dict.fromkeys(folders))
            raise UserError(f"entrypoint {entrypoint}: there is no module {top!r}: not installed, and not in {places}")
        return CodeSource()
    entry = _module_file(root, module)
    if entry is None:
        raise UserError(f"entrypoint {entrypoint}: there is no module {module} in {root}")
    _require_entry(entrypoint, entry, function)
    files, left_out = _followed(root, top)
    return CodeSource(files, left_out, _sha256(files))


def notices(sources: Iterable[CodeSource]) -> list[str]:
    """For people: what lies among the code and is not copied."""
    names = list(dict.fromkeys(name for code in sources for name in code.left_out))
    if not names:
        return []
    more = f" and {len(names) - _NAMED_MOST} more" if len(names) > _NAMED_MOST else ""
    what = ", ".join(names[:_NAMED_MOST])
    shown = what.encode("utf-8", "backslashreplace").decode()
    return [f"not copied with your code: {shown}{more}; a run that needs it must open it where it is"]


def _sha256(files: tuple[File, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.path.read_bytes()
        digest.update(os.fsencode(file.name.as_posix()) + f"\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _has(root: Path, name: str) -> bool:
    return (root / f"{name}.py").is_file() or (root / name).is_dir()


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # ValueError: a module that was made up by a program
        return None


def _editable(name: str) -> Path | None:
    """Folder of a package or module that is not installed for good; None for all others."""
    if name == "terry" or name in sys.stdlib_module_names:
        return None
    spec = _spec(name)
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    file = Path(spec.origin)
    kinds = ("purelib", "platlib", "stdlib", "platstdlib")
    if any(file.is_relative_to(sysconfig.get_path(kind)) for kind in kinds) or "site-packages" in file.parts:
        return None
    root = file.parent.parent if file.name == "__init__.py" else file.parent
    return root if _has(root, name) else None


def _module_file(root: Path, module: str) -> Path | None:
    base = root.joinpath(*module.split("."))
    candidates = (base.with_name(base.name + ".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _require_entry(entrypoint: str, file: Path, name: str) -> None:
    """Raise UserError for what is not there, or cannot be called with a RunContext."""
    found = [node for node in _top(_parsed(file).body) if name in _names(node)]
    if not found:
        raise UserError(f"entrypoint {entrypoint}: no function or class {name!r} is defined there", file=file)
    if wrong := _wrong_with(found[-1]):
        raise UserError(f"entrypoint {entrypoint}: {wrong}", file=file, line=found[-1].lineno)


def _top(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those below `if`, `try` and `with` among them, not those inside of functions."""
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, (ast.stmt, ast.ExceptHandler))]
            handlers = [statement for h in inner if isinstance(h, ast.ExceptHandler) for statement in h.body]
            yield from _top([*(child for child in inner if isinstance(child, ast.stmt)), *handlers])


def _names(node: ast.stmt) -> set[str]:
    """What a statement gives a name to."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.ImportFrom, ast.Import)):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}


def _wrong_with(node: ast.stmt) -> str:
    """Why a definition cannot be called with a RunContext, and done when it returns; empty where it can, or may."""
    if isinstance(node, ast.AsyncFunctionDef):
        return f"{node.name} is an `async def`, which only begins when it is awaited: `asyncio.run(...)` in a `def`"
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:  # a decorator may change what it takes
        return ""
    if _yields(node.body):
        return f"{node.name} is a generator (it has a `yield`), which does nothing when it is called"
    given = node.args
    positional = len(given.posonlyargs) + len(given.args)
    if positional == 0 and given.vararg is None:
        return f"{node.name}() takes no argument, and is called with one: `def {node.name}(ctx):`"
    if positional - len(given.defaults) > 1 or any(default is None for default in given.kw_defaults):
        return f"{node.name} needs more than one argument, and is called with one: `def {node.name}(ctx):`"
    return ""


def _yields(body: Iterable[ast.AST]) -> bool:
    """Whether there is a `yield` that is not another function's."""
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    return any(
        isinstance(node, (ast.Yield, ast.YieldFrom))
        or (not isinstance(node, inner) and _yields(ast.iter_child_nodes(node)))
        for node in body
    )


def _followed(root: Path, first: str) -> tuple[tuple[File, ...], tuple[str, ...]]:
    """Files of the top-level module `first` and of all that is imported from `root`; and what was left out."""
    files: dict[Path, tuple[Path, int]] = {}
    left_out: list[str] = []
    todo, done = [first], set[str]()
    while todo:
        name = todo.pop()
        place = None if name in done else root if _has(root, name) else _editable(name)
        done.add(name)
        if place is None:
            continue
        found = _belongings(place, name)
        left_out += found.left_out
        files.update({path: (place / path, size) for path, size in found.files})
        _check_size(first, root, [(path, size) for path, (_, size) in files.items()])
        todo.extend(other for path, _ in found.files for other in _imports(place / path))
    return tuple(File(path, name) for name, (path, _) in sorted(files.items())), tuple(left_out)


def _belongings(place: Path, name: str) -> Belongings:
    """As Python would have it: a package goes before a module of the same name, any other folder after it."""
    module = Path(f"{name}.py")
    if (place / module).is_file() and not (place / name / "__init__.py").is_file():
        return Belongings(files=[(module, (place / module).stat().st_size)])
    return belongings(place, place / name)


def _check_size(first: str, root: Path, files: list[tuple[Path, int]]) -> None:
    size = sum(size for _, size in files)
    if len(files) > _LIMIT_FILES or size > _LIMIT_BYTES:
        raise UserError(
            f"the code around {first!r} in {root} is too large to be copied: {size / 1e6:,.1f} MB in {len(files):,} "
            f"files, and at most {_LIMIT_BYTES / 1e6:g} MB in {_LIMIT_FILES:,} are; the largest are {largest(files)}. "
            "Put the code in a folder of its own"
        )


def _imports(file: Path) -> Iterator[str]:
    if file.suffix != ".py":
        return
    try:
        tree = _parsed(file)
    except UserError:  # it is copied; who imports it will be told
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _parsed(file: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a text is no business of ours
            return ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise UserError(f"not valid Python: {error.msg}", file=file, line=error.lineno) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", file=file) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"not valid Python: {error}", file=file) from None
