"""The recording of a pack that takes its process down: found, set aside, the others kept."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any

from eventkit.location import location
from pipelines.executors import Death, Pool
from pipelines.pack_task import PackJob, convert_pack, decode_recordings, load_entries
from pipelines.plan import pack_file
from pipelines.scan import death_fault

logger = logging.getLogger(__name__)


def convert_without_deadly(pool: Pool, job: PackJob, death: Death) -> dict[str, Any]:
    """Convert a pack whose task died; returns its receipt.

    Recordings that take a process of their own down are left out as any other that breaks. If none
    does, or the rest dies too, nothing tells which it is, and none is kept.
    """
    specs = [spec for spec, _ in load_entries(pack_file(location(job.store), job.name))]
    logger.warning("%s: %s; looking for the recording that does it", job.name, death)
    deaths = _find(pool, job, tuple(spec.id for spec in specs), death)
    if deaths:
        faults = tuple((s.id, death_fault(s, deaths[s.id])) for s in specs if s.id in deaths)
        receipt = pool.alone(convert_pack, replace(job, set_aside=faults))
        if not isinstance(receipt, Death):
            return receipt
        death = receipt
    faults = tuple((s.id, death_fault(s, deaths.get(s.id, death))) for s in specs)
    return convert_pack(replace(job, set_aside=faults))


def _find(pool: Pool, job: PackJob, recordings: tuple[str, ...], death: Death) -> dict[str, Death]:
    """Return which of recordings that die together die: one of 512 by 18 processes, not 512."""
    if len(recordings) == 1:
        return {recordings[0]: death}
    middle = len(recordings) // 2
    found = {}
    for half in (recordings[:middle], recordings[middle:]):
        result = pool.alone(partial(decode_recordings, job), half)
        if isinstance(result, Death):
            found.update(_find(pool, job, half, result))
    return found
