"""The audit: understand the set, look at every recording, compare them. Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.check.compare import Seen, compare
from pipelines.check.findings import SEVERITIES, Finding, worst_first
from pipelines.check.labels import judge_set
from pipelines.check.look import LookJob, look, set_aside
from pipelines.check.strays import find_strays
from pipelines.choice import choose
from pipelines.datasets.discover import Discovery, Layout, RecordingSpec, discover
from pipelines.datasets.faults import SetFault
from pipelines.datasets.splits import BY_RECORDING, SplitRule
from pipelines.executors import RunSettings, Site, open_pool
from pipelines.opening import ReadSettings, check_options, for_set
from pipelines.progress import progress


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found.

    Parameters
    ----------
    found : Discovery
    findings : tuple of Finding
        Worst first.
    bytes, events, pictures : int
        That were read.
    """

    found: Discovery
    findings: tuple[Finding, ...]
    bytes: int
    events: int
    pictures: int

    def is_clean(self, *, strict: bool = False) -> bool:
        """Whether there is no error and no warning, nor a note with ``strict``."""
        return all(finding.severity == "note" and not strict for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return plain types with stable keys, for JSON; see docs/check.md."""
        found, counts = self.found, Counter(finding.severity for finding in self.findings)
        return {
            "schema": 1,
            "root": str(found.root),
            "layout": found.layout,
            "recordings": len(found.recordings),
            "classes": len(found.classes),
            "splits": dict(sorted(Counter(spec.split for spec in found.recordings).items())),
            "bytes": self.bytes,
            "events": self.events,
            "pictures": self.pictures,
            "counts": {severity: counts[severity] for severity in SEVERITIES},
            "findings": [finding.as_dict() for finding in self.findings],
        }


def check_raw(
    sources: Sequence[Path],
    *,
    read: ReadSettings,
    layout: Layout,
    run: RunSettings,
    rule: SplitRule = BY_RECORDING,
) -> Audit:
    """Audit raw recordings.

    Memory holds the names of all recordings, some hundred bytes on each, and the findings; of the
    recordings themselves one piece a worker.

    Parameters
    ----------
    sources : sequence of Path
        Folders or files.
    read : ReadSettings
        ``on_error`` is to be ``raise``: what `convert` would set aside is what is looked for.
    layout : {"auto", "list", "tree", "flat"}
    run : RunSettings
    rule : SplitRule
        Which recordings belong together: one group is not to stand in two splits.

    Raises
    ------
    MissingDataError
        If there is nothing to look at.
    """
    faults: list[SetFault] = []
    found = discover(sources, layout=layout, rule=rule, refuse=faults.append)
    check_options(found.root, found.recordings, read)
    read = for_set(read, found)
    jobs = [LookJob(str(found.root), spec, read) for spec in found.recordings]
    seen: list[Seen] = []
    executor, _ = choose(found, run)
    # Workers on other machines show that they see the raw folder before the first task.
    site = Site(inputs=tuple(found.root / _file(spec) for spec in found.recordings[:1]))
    with (
        open_pool(executor, workers=run.workers, tasks=len(jobs), site=site) as pool,
        progress("check", len(jobs), "recordings") as bar,
    ):
        for job, result in pool.run(look, jobs, died=set_aside):
            seen.append(Seen(job.spec, result))
            bar.advance(1)
    seen.sort(key=lambda recording: (recording.spec.id, recording.path))
    findings = [
        *judge_set(found, faults, by=rule.by),
        *find_strays(found.root, sources),
        *(finding for recording in seen for finding in recording.look.findings),
        *compare(found.root, seen),
    ]
    return Audit(
        found,
        tuple(worst_first(findings)),
        bytes=sum(recording.look.bytes for recording in seen),
        events=sum(recording.look.events for recording in seen),
        pictures=sum(recording.look.pictures for recording in seen),
    )


def _file(spec: RecordingSpec) -> str:
    return str(spec.events or spec.rgb)
