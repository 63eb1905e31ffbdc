"""A job array: many processes that write to one dataset through the Python API at once."""

from __future__ import annotations

import multiprocessing
import time

import usrstore.dataset

NAMESPACE = "infer"
PRELOAD = [
    *("pandas", "pyarrow.compute", "pyarrow.dataset", "pyarrow.pandas_compat", "pyarrow.parquet"),
    *("usrstore.dataset.query", "usrstore.tables", "usrstore.verbs.attach", "yaml", "zoneinfo"),
]
COLUMNS = "score:float64,task:int64"


def sequence(number: int) -> str:
    """The record of one task: all differ."""
    return "ACGT" + "".join("ACGT"[(number >> (2 * place)) & 3] for place in range(8))


def task(root: str, dataset: str, number: int, go, done) -> None:
    """One process: a part with its own row, and one with a row that all write."""
    table = usrstore.dataset.open(root, dataset, {"tool": "infer", "run_id": f"array-{number}"})
    go.wait()
    rows = [
        {"id": usrstore.dataset.row_id(sequence(number)), "score": number / 2, "task": number},
        {"id": usrstore.dataset.row_id("TTTT"), "task": number},
    ]
    done.put((number, table.write_overlay_part(rows, NAMESPACE).path))


def run(root: str, dataset: str, tasks: int, *, timeout_s: float) -> dict[int, str]:
    """Let so many processes write one part each at the same moment; gives what they say they wrote.

    They are forked from one small server, so that 200 of them do not import Arrow 200 times.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    go, done = context.Event(), context.SimpleQueue()
    crowd = [
        context.Process(target=task, args=(root, dataset, number, go, done))
        for number in range(tasks)
    ]
    for process in crowd:
        process.start()
    go.set()
    deadline = time.monotonic() + timeout_s
    for process in crowd:
        process.join(max(0.0, deadline - time.monotonic()))
    late = [process for process in crowd if process.exitcode is None]
    for process in late:
        process.kill()
    assert not late, f"{len(late)} of {tasks} were not done after {timeout_s} s"
    assert [process.exitcode for process in crowd] == [0] * tasks
    said = {}
    while not done.empty():
        number, path = done.get()
        said[number] = path
    return said
