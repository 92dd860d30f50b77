"""A file system that hangs, is gone, and comes back: a FUSE mount without a server, laid over a folder. Needs root.

While it hangs every look at a path in the folder blocks, as on an NFS mount whose server is away; once it is lost they
fail with ENOTCONN; once it is lifted the folder is there as before. Files that were open before are not touched.
Whoever uses this must not look into the folder in between.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2


class AbsentDisk:
    """Hung from `hang` on, until `lift`."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.fsencode(folder)
        self._server: int | None = None
        self._mounted = False

    def hang(self) -> bool:
        """The server does not answer from now on. False where we may not mount."""
        assert not self._mounted
        try:
            self._server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        options = f"fd={self._server},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        self._mounted = _LIBC.mount(b"terry-absent", self._folder, b"fuse", 0, options) == 0
        if not self._mounted:
            self.lift()
        return self._mounted

    def lose(self) -> None:
        """The server is gone for good: whatever waits, and whatever is asked from now on, fails."""
        if self._server is not None:
            os.close(self._server)
            self._server = None

    def lift(self) -> None:
        """The folder is back."""
        self.lose()  # first: nobody may go on waiting for a mount that is no longer seen
        if self._mounted:
            self._mounted = False
            if _LIBC.umount2(self._folder, _MNT_DETACH) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), os.fsdecode(self._folder))
