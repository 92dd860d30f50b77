"""How the next token of a text is chosen: settings only, so that the command line may check them without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from terry.models.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How the next token is chosen."""

    #: probabilities are raised to 1/temperature: below 1 keeps to what is likely, above 1 dares more
    temperature: float = 1.0
    #: only so many likeliest tokens; left out: all
    top_k: int | None = None
    #: only the likeliest tokens that together have this probability (Holtzman et al. 2020); left out: all
    top_p: float | None = None
    #: log probabilities of tokens that the text has already are multiplied by it (after Keskar et al. 2019)
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ConfigError(
                f"temperature must be more than 0 and finite, not {self.temperature:g}: 1 draws as the model predicts, "
                "0.5 keeps to what is likely; for the likeliest token at each step use top-k 1"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top-k must be at least 1, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top-p must be more than 0 and at most 1, not {self.top_p:g}")
        if not 1 <= self.repetition_penalty < math.inf:
            raise ConfigError(f"the repetition penalty must be at least 1 (none), not {self.repetition_penalty:g}")
