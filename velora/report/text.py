"""A report as lines for a terminal."""

from __future__ import annotations

from velora.scoring.robustness import Robustness
from velora.scoring.scores import Report, Score


def report_lines(report: Report) -> list[str]:
    """Format a report for reading: accuracies, chance, and the confusion matrix if it is small."""
    lines = [
        f"{report.split} split, weights of epoch {report.epoch}, {len(report.classes)} classes"
    ]
    if report.other_settings:
        lines.append(f"  made with other settings than the run: {'; '.join(report.other_settings)}")
    for one in report.scores:
        lines += [_clips_line(one), _classes_line(one)] if one.samples else [_no_clips_line(one)]
    lines.append(
        f"  chance {report.chance:.3f}, always the largest class {report.largest_class:.3f}"
    )
    return lines + _confusion_lines(report)


def _clips_line(one: Score) -> str:
    low, high = one.top1_interval
    line = (
        f"  {one.view:<6} ({one.how}): top-1 {one.top1:.3f} +- {one.top1_error:.3f} "
        f"(95 %: {low:.3f} to {high:.3f})"
    )
    if one.top5 is not None and one.top5_error is not None:
        line += f", top-5 {one.top5:.3f} +- {one.top5_error:.3f}"
    line += f", {one.samples} clips"
    return line + (f", {one.left_out} without this sense" if one.left_out else "")


def _no_clips_line(one: Score) -> str:
    """Say that nothing was measured: an accuracy of no clips would read as one of 0."""
    return f"  {one.view:<6} ({one.how}): no clips, {one.left_out} without this sense"


def _classes_line(one: Score) -> str:
    line = f"         mean-class {one.mean_class:.3f} +- {one.mean_class_error:.3f}"
    whole = one.recordings
    if whole is not None and whole.samples == one.samples:
        line += ", recording-level the same: one clip each"
    elif whole is not None:
        line += (
            f", recording-level {whole.share:.3f} +- {whole.error:.3f} ({whole.samples} recordings)"
        )
    return f"{line}, calibration error {one.ece:.3f}"


def _confusion_lines(report: Report) -> list[str]:
    matrix, names = report.confusion, report.classes
    if len(names) <= 12:
        width = max(4, *(len(str(cell)) + 1 for row in matrix for cell in row))
        label = max(len(name) for name in names)
        head = "".join(f"{name[: width - 1]:>{width}}" for name in names)
        rows = [
            f"  {name:>{label}}" + "".join(f"{cell:>{width}}" for cell in row)
            for name, row in zip(names, matrix, strict=True)
        ]
        return [
            f"  confusion of {report.scores[0].view} (rows true, columns predicted)",
            "  " + " " * label + head,
            *rows,
        ]
    worst = most_confused(report)[:10]
    return ["  most frequent confusions:"] + [f"  {n:>5}  {a} taken for {b}" for n, a, b in worst]


def most_confused(report: Report) -> list[tuple[int, str, str]]:
    """Return (clips, true class, predicted class) of every kind of error, most frequent first."""
    names = report.classes
    pairs = [
        (-cell, i, j)
        for i, row in enumerate(report.confusion)
        for j, cell in enumerate(row)
        if i != j and cell
    ]
    return [(-cell, names[i], names[j]) for cell, i, j in sorted(pairs)]


def robustness_lines(found: Robustness) -> list[str]:
    """Format a robustness table for reading."""
    width = max(len(row.name) for row in found.rows)
    lines = ["when a sense fails at test time (p: McNemar against clean)"]
    for row in found.rows:
        one, test = row.score, row.against_clean
        if not one.samples:
            lines.append(f"  {row.name:<{width}}  no clips ({one.left_out} left out)")
            continue
        line = f"  {row.name:<{width}}  top-1 {one.top1:.3f} +- {one.top1_error:.3f}"
        line += f", {one.samples} clips"
        if one.left_out:
            told = test is not None and row.clean_top1 is not None
            clean = f"; clean on these {row.clean_top1:.3f}" if told else ""
            line += f" ({one.left_out} left out{clean})"
        lines.append(line if test is None else f"{line}, p {test.p_value:.2g}")
    if found.left_out:
        lines.append(f"  not to be had of these clips: {', '.join(found.left_out)}")
    return lines
