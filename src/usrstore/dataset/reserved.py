"""The two namespaces that only our own commands write: their columns, and what these may say."""

from __future__ import annotations

TOMBSTONE_COLUMNS = {
    "usr__deleted": "bool",
    "usr__deleted_at": "timestamp[us, UTC]",
    "usr__deleted_reason": "string",
}
"""The columns of tombstones, which are in no registry."""

STATE_COLUMNS = {
    "usr_state__masked": "bool",
    "usr_state__qc_status": "string",
    "usr_state__split": "string",
    "usr_state__supersedes": "string",
    "usr_state__lineage": "list<string>",
}
"""The columns of record state, as every registry has them."""

QC_STATUS = ("pass", "fail", "warn", "unknown")
SPLIT = ("train", "val", "test", "holdout")

STATE_WORDS = {"usr_state__qc_status": QC_STATUS, "usr_state__split": SPLIT}
"""What these columns may say."""
