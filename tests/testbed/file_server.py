"""A workspace on a shared file system as it is: each host of a bed is a client with caches of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.shared_disk import client
from tests.testbed.beds import ROOT, Bed


@contextlib.contextmanager
def shared_by(bed: Bed, hosts: list[str], kind: str, cached_s: float) -> Iterator[Path]:
    """Have the bed's `shared` be a folder of a file server; whoever calls is one more of its clients."""
    server, folder = bed.state / "server", bed.state / "lab"
    server.mkdir(mode=0o777)
    server.chmod(0o777)
    folder.mkdir()
    with client(server, folder, kind, cached_s), contextlib.ExitStack() as mounted:
        for host in hosts:
            mounted.enter_context(_on(bed, host, [str(server), str(folder), kind, str(cached_s)]))
        before, bed.shared = bed.shared, folder
        try:
            yield folder
        finally:
            bed.shared = before


@contextlib.contextmanager
def _on(bed: Bed, host: str, given: list[str]) -> Iterator[None]:
    serve = f"cd {ROOT} && exec {sys.executable} -m tests.faults.shared_disk {' '.join(given)}"
    log = bed.state / "hosts" / host / "file_system.log"
    command = [str(bed.state / "bin" / "on"), host, "sh", "-c", serve]
    with log.open("w") as out, subprocess.Popen(command, cwd=bed.state, stdout=out, stderr=out) as process:
        try:
            deadline = time.monotonic() + 60.0
            while bed.on(host, "mountpoint", "-q", given[1]).returncode != 0:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield
        finally:
            bed.on(host, "fusermount3", "-u", "-z", given[1])
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
