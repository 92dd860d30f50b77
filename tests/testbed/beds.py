"""The test beds for pytest: hosts with sshd of their own, or a Slurm cluster."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@functools.cache
def why_not() -> str:
    """Why there can be no bed here; empty where there can be one."""
    if os.geteuid() != 0:
        return "the test beds need root (namespaces, sshd): run the tests as root"
    spaces = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "true"]
    if subprocess.run(spaces, capture_output=True, check=False).returncode != 0:
        return "the test beds need namespaces, which cannot be made here (in a container? it must be privileged)"
    return ""


@functools.cache
def why_no_slurm(*, accounting: bool = False) -> str:
    """Why there can be no Slurm bed here; empty where there can be one."""
    programs = ["slurmctld", "slurmd", "munged", *(["slurmdbd", "mariadbd"] if accounting else [])]
    missing = [name for name in programs if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    packages = "slurm-wlm munge" + (" slurmdbd slurm-wlm-mysql-plugin mariadb-server" if accounting else "")
    return why_not() or (f"there is no {missing[0]}: apt-get install {packages}" if missing else "")


class Bed:
    """Hosts that stand in one state folder. `shared` is the folder that all of them see."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.shared = state / "shared"
        self._clocks: dict[str, dict[str, str]] = {}

    def up(self, *hosts: str) -> None:
        """Start the hosts, those that are missing."""
        self._script("hosts_up.sh", *self._shares(), *hosts)

    def set_clock(self, host: str, off_s: int) -> None:
        """Before `up`: whatever is run on the host by ssh or `on` has a clock that is off by so much."""
        library = self.state / "shifted_clock.so"
        if not library.exists():
            library.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cc", "-shared", "-fPIC", "-o", library, HERE / "shifted_clock.c", "-ldl"], check=True)
        self._clocks[host] = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK_S": str(off_s)}
        folder = self.state / "hosts" / host
        folder.mkdir(parents=True, exist_ok=True)
        given = " ".join(f'"{name}={value}"' for name, value in self._clocks[host].items())
        (folder / "sshd_extra").write_text(f"SetEnv {given}\n", encoding="utf-8")

    def slurm_up(self, *nodes: str, accounting: bool = True) -> None:
        """Start a Slurm cluster of nodes such as `seawolf:2` (GPUs), beside the host `login`."""
        self._script("slurm_up.sh", *self._shares(), *([] if accounting else ["--no-accounting"]), *nodes)

    def down(self) -> None:
        """End all hosts with every process on them, and remove the state."""
        self._script("hosts_down.sh", "--purge")

    def slurm_down(self) -> None:
        """The same for a Slurm cluster."""
        self._script("slurm_down.sh", "--purge")

    def on(self, host: str, *command: str, timeout: float = 120.0, **kinds: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host, to its end. kinds: variables of its environment."""
        return subprocess.run(
            [str(self.state / "bin" / "on"), host, *self._env(host), *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            cwd=self.shared,
            env={**os.environ, **kinds},
        )

    def _env(self, host: str) -> list[str]:
        clock = self._clocks.get(host)
        return ["env", *(f"{name}={value}" for name, value in clock.items())] if clock else []

    def cut(self, host: str) -> None:
        """Pull the host's network cable."""
        self._tool("cut", host)

    def uncut(self, host: str) -> None:
        """Plug it in again."""
        self._tool("uncut", host)

    def crash(self, host: str) -> None:
        """Power cut; `up` starts the host again."""
        self._tool("crash", host)

    def _tool(self, name: str, host: str) -> None:
        subprocess.run([str(self.state / "bin" / name), host], check=True, timeout=30.0)

    @staticmethod
    def _shares() -> list[str]:
        """The project and its Python are on all hosts, wherever they stand."""
        return [word for folder in sorted({str(ROOT), sys.prefix, sys.base_prefix}) for word in ("--share", folder)]

    def _script(self, name: str, *arguments: str) -> None:
        command: Sequence[str] = [str(HERE / name), "--state", str(self.state), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400.0)
        if done.returncode != 0:
            raise AssertionError(f"{name}: {done.stdout}{done.stderr}")
