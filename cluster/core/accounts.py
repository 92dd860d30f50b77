"""Who has used how much: device-time by user and by sweep, of which half is forgotten after each half-life.

An account is worth v(t), where dv/dt = rate - v ln 2 / half-life, and `rate` is the share of devices in use. It is
solved in closed form whenever the rate changes, so a look costs the same however much has run.
"""

from __future__ import annotations

import math

import msgspec

from terry.cluster.core.model import DeviceKind
from terry.cluster.core.policy import HALF_LIFE_S

#: Kind of device, user, sweep; sweep "" is all that the user has in use.
Key = tuple[DeviceKind, str, str]

#: Device-seconds: an account below it is forgotten once nothing runs on it.
FORGOTTEN_S = 1.0


class Account(msgspec.Struct, kw_only=True):
    """What one user, or one sweep of a user, has used of one kind of device."""

    kind: DeviceKind
    owner: str
    sweep: str
    value: float = 0.0  #: device-seconds, decayed to `at`
    rate: float = 0.0  #: share of devices in use: GPUs or cores
    jobs: int = 0  #: that hold a share
    at: float = 0.0  #: seconds since 1970


class Ledger:
    """All accounts."""

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        self.half_life_s = half_life_s
        self.accounts: dict[Key, Account] = {}

    def change(self, kind: DeviceKind, owner: str, sweep: str, share: float, jobs: int, at: float) -> None:
        """From `at` on the user's sweep has `share` and `jobs` more (or less) in use."""
        for key in ((kind, owner, ""), (kind, owner, sweep)):
            account = self.accounts.get(key)
            if account is None:
                account = self.accounts[key] = Account(kind=kind, owner=owner, sweep=key[2], at=at)
            if at > account.at:
                account.value, account.at = self._value(account, at), at
            account.jobs += jobs
            account.rate = account.rate + share if account.jobs else 0.0  # no rest of a sum of floats is left

    def used(self, key: Key, at: float) -> float:
        """Device-seconds that the account is worth at a time."""
        account = self.accounts.get(key)
        return 0.0 if account is None else self._value(account, at)

    def rate(self, key: Key) -> float:
        """Share of devices that is in use."""
        account = self.accounts.get(key)
        return 0.0 if account is None else account.rate

    def jobs(self, owner: str, sweep: str) -> int:
        """Jobs of the user (sweep "") or the sweep that hold a share, on all kinds of devices."""
        found = (self.accounts.get((kind, owner, sweep)) for kind in DeviceKind)
        return sum(account.jobs for account in found if account is not None)

    def set_half_life(self, half_life_s: float, at: float) -> None:
        """From `at` on things are forgotten at another pace."""
        for account in self.accounts.values():
            account.value, account.at = self._value(account, at), max(at, account.at)
        self.half_life_s = half_life_s

    def forget(self, at: float) -> None:
        """Drop accounts that are worth nothing any more, so that there are as many as there is recent work."""
        gone = [k for k, a in self.accounts.items() if not a.jobs and self._value(a, at) < FORGOTTEN_S]
        for key in gone:
            del self.accounts[key]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def _value(self, account: Account, at: float) -> float:
        seconds = at - account.at
        if seconds <= 0.0:
            return account.value
        left = math.exp2(-seconds / self.half_life_s)
        steady = account.rate * self.half_life_s / math.log(2)
        return account.value * left + steady * (1.0 - left)
