"""Word of a preemption for the program in a Slurm job, also where Slurm tells only the job's steps.

When the grace time of a preemption begins, Slurm sends SIGCONT and SIGTERM to a job's steps, not to its batch script
(measured on 22.05), unless the cluster has `SlurmctldParameters=preempt_send_user_signal`. So a step stands beside the
program, which does nothing but pass that on. When the grace time is over everything in the job gets SIGTERM.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

#: It shares all that the job has, and takes none of it.
_STEP = ("srun", "--overlap", "--nodes=1", "--ntasks=1", "--cpus-per-task=1", "--mem=0", "--gres=none", "--input=none")


def pass_on(number: int = signal.SIGUSR1) -> subprocess.Popen[bytes] | None:
    """Have this process told by signal `number`. None where there is no srun; without it a preemption is a crash."""
    script = f'trap "kill -{int(number)} {os.getpid()}" TERM; sleep infinity & wait'
    try:
        return subprocess.Popen([*_STEP, "sh", "-c", script], stdout=subprocess.DEVNULL, stderr=sys.stdout.fileno())
    except OSError as error:
        print(f"nobody tells of a preemption here: {error}", flush=True)
        return None
