"""What the small forkserver imports: all that a job needs whose code does without torch. A third of a second."""

from __future__ import annotations

import msgspec

from terry.cluster.host import versions
from terry.jobs.process import spec_file as specfile
from terry.jobs.process.order import Order
from terry.jobs.submitting.records import JobLine

MODULES: tuple[str, ...] = (
    "numpy",
    "terry.jobs.process.child",
    "terry.jobs.command",
    "terry.logs.records.tensorboard",
)

for kind in (Order, JobLine):
    msgspec.json.Decoder(kind)  # what it learns of the types it keeps
# Now, while the code on disk is the code that is loaded.
versions.installed()
specfile.terry_hash()
