"""A way home on which calls get lost, before they arrive or on the way back."""

from __future__ import annotations

import random
from typing import Any

from terry.cluster.away.home import Home, HomeAway


class FlakyHome:
    """A WorkspaceHome over a Home. `chance`: how likely each call is to be lost; half of those are carried out."""

    def __init__(self, home: Home, chance: float = 0.0, seed: int = 0) -> None:
        self._home = home
        self._random = random.Random(seed)
        self.chance = chance
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any) -> Any:
            self.calls += 1
            lost = self._random.random() < self.chance
            if lost and self._random.random() < 0.5:
                raise HomeAway("lost on the way there")
            answer = getattr(self._home, name)(*given)
            if lost:
                raise HomeAway("lost on the way back")
            return answer

        return call
