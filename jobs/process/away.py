"""What an attempt reads beside its own run's files: what has to be sent to a node that does not see the workspace."""

from __future__ import annotations

import json

from terry.cluster.ports import LaunchOrder
from terry.jobs.process.order import Order


def needs(workspace: str, order: LaunchOrder) -> list[str]:
    """Files and folders that never change, relative to the workspace: the job's line, its code, its data sets.

    Raises OSError, ValueError.
    """
    given = Order(
        job_id=order.job_id,
        sweep=order.sweep,
        attempt=order.attempt,
        entrypoint=order.entrypoint,
        workspace=workspace,
        spec_path=order.spec_path,
        spec_offset=order.spec_offset,
        spec_length=order.spec_length,
    )
    line = given.line()
    found = [order.spec_path, *([line.source] if line.source else [])]
    for job_id in line.inputs.values():
        result = given.place.run(job_id).result
        found.append(str(result.relative_to(given.place.root)))
        folder = json.loads(result.read_bytes()).get("folder")
        found += [folder] if isinstance(folder, str) else []
    return found
