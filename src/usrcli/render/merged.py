"""What a merge did, for people: one line a kind of thing."""

from __future__ import annotations

from collections.abc import Iterator

from usrstore.objects.sections import EVENTS_FILE
from usrstore.verbs.mergeplan import Report


def lines_of(report: Report) -> Iterator[str]:
    for path, numbers in report.rows.items():
        words = [f"{numbers['rows']} rows: +{numbers['theirs']} theirs, +{numbers['ours']} ours"]
        if numbers["cells"]:
            words.append(f"{numbers['cells']} cells of ours")
        if numbers["removed"]:
            words.append(f"{numbers['removed']} rows gone")
        if numbers["columns"]:
            words.append(f"columns of ours: {', '.join(map(str, numbers['columns']))}")
        if numbers["resolved"]:
            words.append(f"{numbers['resolved']} conflicts decided")
        yield f"{path}: {'; '.join(words)}"
    if report.log is not None:
        yield f"{EVENTS_FILE}: +{report.log.theirs} lines theirs, then +{report.log.ours} ours"
    for path in report.texts:
        yield f"{path}: merged line by line"
    for side, names in (("theirs", report.theirs), ("ours", report.ours)):
        if names:
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            yield f"from {side}: {shown}"
    for path, side in report.chosen.items():
        yield f"{path}: {side}, as you decided"
    for note in report.notes:
        yield f"note: {note}"
