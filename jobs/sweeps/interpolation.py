"""`${run.model.hidden_size}`: values that stand elsewhere in the sweep file, by OmegaConf. Pure."""

from __future__ import annotations

import functools
from typing import Any

from terry.cluster.config.typed import is_open, put
from terry.cluster.config.yaml_file import Document, Problem, Where, dotted, leaves, plain


def has_open(value: Any) -> bool:
    """True where something has still to be filled in."""
    return any(is_open(item) for _, item in leaves(value))


class Interpolation:
    """Fills in values of a file."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def resolve(self, path: Where, value: Any) -> Any:
        """`value`, which stands at `path` of the file, complete. Raises Problem, its path relative to `path`."""
        if not has_open(value):
            return value
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        root = dict(self._rest)
        put(root, path, plain(value))
        try:
            node = OmegaConf.select(OmegaConf.create(root), dotted(path))
            return OmegaConf.to_container(node, resolve=True)
        except OmegaConfBaseException as error:
            full = tuple((getattr(error, "full_key", "") or "").split("."))
            relative = full[len(path) :] if full[: len(path)] == path else ()
            raise Problem(str(error).splitlines()[0], relative) from None

    @functools.cached_property
    def _rest(self) -> dict[str, Any]:
        given = self._document.value
        return {str(key): plain(item) for key, item in given.items() if key not in {"sweep", "ensembles"}}
