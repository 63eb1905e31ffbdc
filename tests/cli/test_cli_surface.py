"""What the command line promises as a whole: help, exit statuses, errors, start-up."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import jsonschema
import pytest
import render_cli

from support.datasets import DATASET
from support.lab import SCHEMAS, USR, schema_of, validate
from usrcli import main
from usrstore import errors
from usrstore.root import Root

SRC = Path(main.__file__).parent.parent
DOC = Path(__file__).parent.parent.parent / "docs" / "cli.md"
HEAVY = {"pyarrow", "numpy", "duckdb", "pandas", "Bio", "rich", "asyncio", "obstore"}


def commands():
    """Every command, groups and their members, as the words that a person types."""
    found = []
    for words, command in render_cli.commands():
        found.append(pytest.param(words, command, id=" ".join(words)))
    return found


@pytest.mark.parametrize(("words", "command"), commands())
def test_every_command_has_help(lab, words, command):
    said = lab.usr(*words, "--help").ok()
    assert said.out.startswith(f"Usage: usr {' '.join(words)} ")
    assert not said.err
    assert "\\b" not in said.out
    assert command.help, "a command says what it does"
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, f"{words} {option.opts}"


def test_help_lists_every_command_with_a_summary(lab):
    said = lab.usr("--help").ok()
    for rows in main.COMMANDS.values():
        for name, (_, summary) in rows.items():
            assert re.search(rf"^  {name} +{re.escape(summary[:40])}", said.out, re.MULTILINE)


def test_no_command_is_help_and_a_usage_error(lab):
    said = lab.usr()
    assert said.status == 2
    assert "Commands" in said.err or "Moving and comparing" in said.err
    assert lab.usr("remotes").status == 2


def test_version(lab):
    assert lab.usr("--version").ok().out == "usr, version 0.1.0\n"


def test_the_page_of_commands_is_what_the_commands_say():
    assert render_cli.spliced(DOC.read_text()) == DOC.read_text(), (
        "run: python tests/cli/render_cli.py"
    )


def table(title):
    """The rows of the table under a heading of docs/cli.md, as tuples of cells."""
    _, _, rest = DOC.read_text().partition(f"\n## {title}\n")
    assert rest, title
    rows = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows[2:]]


def test_exit_statuses_are_the_documented_ones():
    stated = {int(row[0]): row[1] for row in table("Exit statuses")}
    families = {status: family.code for family, status in main.EXIT_STATUS.items()}
    others = {
        0: "success",
        main.EXIT_FINDING: "finding",
        main.EXIT_USAGE: "usage",
        main.EXIT_BUG: "bug",
        main.EXIT_INTERRUPTED: "interrupted",
    }
    assert set(stated) == {*families, *others}
    for status, word in {**families, **others}.items():
        assert f"`{word}`" in stated[status] or word == stated[status], (status, word)


def test_every_family_of_errors_has_a_status():
    families = {
        error
        for error in vars(errors).values()
        if isinstance(error, type) and error.__base__ is errors.UsrError
    }
    assert families == set(main.EXIT_STATUS)
    assert len(set(main.EXIT_STATUS.values())) == len(families)


def spelled_codes():
    found = set()
    for path in SRC.rglob("*.py"):
        if "drills" not in path.parts:
            found |= set(re.findall(r'\bcode\s*=\s*"([a-z-]+)"', path.read_text()))
    return found


def test_every_code_is_documented():
    made = {f"post-{verb}-{what}" for verb in ("pull", "push") for what in ("primary", "sidecars")}
    stated = {row[0].strip("`") for row in table("Error codes")}
    assert spelled_codes() | made | {"usage", "bug"} <= stated
    for code in stated - made - {"usage", "bug"}:
        assert any(f'"{code}"' in path.read_text() for path in SRC.rglob("*.py")), code


def test_every_finding_of_fsck_is_documented():
    rooms = ("fsck", "scrubbing", "surroundings")
    text = "".join((SRC / f"usrstore/verbs/{room}.py").read_text() for room in rooms)
    made = set(re.findall(r'Finding\(\s*"([a-z-]+)"', text))
    assert len(made) > 8
    assert made <= {row[0].strip("`") for row in table("Findings of fsck")}


def test_every_variable_that_is_read_is_documented():
    read = set()
    for path in (SRC / "usrcli").rglob("*.py"):
        if "drills" not in path.parts:
            read |= set(re.findall(r'"((?:USR|XDG|SSH)_[A-Z_]+|NO_COLOR)"', path.read_text()))
    read |= {"USR_SSH_COMMAND"}
    assert read <= {row[0].strip("`") for row in table("Environment")}


# ── errors ──────────────────────────────────────────────────────────────────────────────
def test_an_error_is_on_standard_error_with_its_code_and_a_hint(lab):
    said = lab.usr("push", "nope", "lab", "-y").failed("dataset-not-found", 4)
    assert said.out == ""
    assert said.err.splitlines() == [
        f"error: there is no dataset nope under {lab.root}",
        "code: dataset-not-found",
        f"hint: this root has: {DATASET}",
    ]


@pytest.mark.parametrize("flag", [["--json"], ["--format", "json"], ["--format=json"]])
def test_with_json_an_error_is_one_line_on_standard_output_as_well(lab, flag):
    said = lab.usr("push", "nope", "lab", "-y", *flag).failed("dataset-not-found", 4)
    assert said.out.count("\n") == 1
    assert ": " not in said.out.split('"message"')[0], "compact separators"
    assert said.error == {
        "code": "dataset-not-found",
        "message": f"there is no dataset nope under {lab.root}",
        "hint": f"this root has: {DATASET}",
        "exit": 4,
    }


USAGE = [
    ["push", DATASET, "lab", "--verify-sidecars", "--primary-only"],
    ["pull", DATASET, "lab", "--primary-only"],
    ["pull", DATASET, "lab", "--verify-sidecars", "--skip-snapshots"],
    ["push", DATASET, "lab", "--skip-snapshots"],
    ["push", DATASET, "lab", "--verify-derived-hashes", "--no-verify-sidecars"],
    ["diff", DATASET, "lab", "--verify", "maybe"],
    ["pull", DATASET],
    ["push", DATASET, "lab", "--nope"],
    ["nope"],
    ["serve"],
    ["log", DATASET, "-n", "0"],
    ["trust", "add", "--name", "bob"],
    ["remotes", "add", "x", "--base-dir", "/x", "--port", "70000"],
]


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_usage_errors_are_told_apart(lab, words):
    before = lab.everything()
    said = lab.usr(*words).failed("usage", 2)
    assert said.out == ""
    assert lab.usr(*words, "--json").error["exit"] == 2
    assert lab.everything() == before


def test_a_bug_shows_no_traceback_but_with_debug(lab, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Root, "__init__", fail)
    monkeypatch.setattr(type(lab), "usr", lambda _, *words: main.run(list(words)))
    assert lab.usr("status") == main.EXIT_BUG
    assert lab.usr("status", "--json") == main.EXIT_BUG
    out, err = lab.capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "bug"
    assert "code: bug\n" in err
    assert "Traceback" not in err
    assert "--debug" in err
    with pytest.raises(RuntimeError):
        lab.usr("--debug", "status")


def test_what_the_machine_refuses_is_no_bug(lab, monkeypatch):
    def refuse():
        raise PermissionError(13, "Permission denied", "/some/where")

    monkeypatch.setattr(os, "getcwd", refuse)
    monkeypatch.delenv("USR_ROOT")
    said = lab.usr("status").failed("storage", 10)
    assert "error: /some/where: Permission denied" in said.err


def test_interrupted(lab, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Root, "__init__", interrupt)
    said = lab.usr("status")
    assert said.status == 130
    assert "nothing is half done" in said.err


def test_w25_every_kind_of_failure_has_a_status_of_its_own(synced):
    """W25: domain errors, usage errors and bugs were mixed up between 1 and 2, out and err."""
    lab = synced
    assert lab.usr("diff", "nope/y", "lab").failed("dataset-not-found", 4).out == ""
    assert lab.usr("diff", DATASET, "nolab").failed("remote-not-found", 4).out == ""
    assert lab.usr("diff", "--verify").failed("usage", 2).out == ""
    assert lab.usr("push", "a/b/c", "lab").failed("invalid-name", 3).out == ""
    assert lab.usr("diff", DATASET, "lab", "--exit-code").ok().err == ""
    (lab.folder / "meta.md").write_text("changed")
    assert lab.usr("diff", DATASET, "lab").ok().err == ""
    assert lab.usr("diff", DATASET, "lab", "--exit-code").status == 1
    assert lab.usr("diff", DATASET, "--exit-code").status == 1
    assert lab.usr("status", "--exit-code").status == 1


# ── pipes and terminals ─────────────────────────────────────────────────────────────────
def test_a_reader_that_leaves_early_is_no_error(synced):
    done = subprocess.run(
        f"{' '.join(USR)} log {DATASET} | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, status = done.stdout.splitlines()
    assert first.startswith("manifest ")
    assert int(status) in (0, 141)
    assert done.stderr == ""


def test_a_pipe_that_is_closed_from_the_start(synced):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*USR, "log", DATASET], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def on_terminal(*words, env=None, columns=80):
    """Everything a command writes when both its outputs are a terminal."""
    main_end, other_end = pty.openpty()
    process = subprocess.Popen(
        [*USR, *words], stdin=other_end, stdout=other_end, stderr=other_end,
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **(env or {})},
    )  # fmt: skip
    os.close(other_end)
    written = b""
    try:
        while piece := os.read(main_end, 65536):
            written += piece
    except OSError:  # the other end is gone
        pass
    finally:
        os.close(main_end)
    return process.wait(), written.decode()


def test_help_into_a_pipe_that_is_closed():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*USR, "--help"], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("flags", [["--no-rich"], []])
def test_no_color_and_no_rich_write_no_escapes(synced, flags):
    (synced.folder / "big").write_bytes(os.urandom(1 << 20))
    env = {} if flags else {"NO_COLOR": "1"}
    status, text = on_terminal(*flags, "push", DATASET, "lab", "-y", env=env)
    assert status == 0, text
    assert "PUSH audit: TRANSFERRED" in text
    assert not re.search(r"\x1b\[[0-9;]*m", text), "no colours"
    if flags:
        assert "\x1b" not in text


def test_in_a_pipe_there_are_no_escapes_and_no_progress(synced):
    (synced.folder / "big").write_bytes(os.urandom(1 << 20))
    said = synced.spawn("push", DATASET, "lab", "-y").ok()
    assert "\x1b" not in said.out + said.err
    assert "\r" not in said.out + said.err
    assert said.err == ""


def test_progress_as_json_lines(synced):
    (synced.folder / "big").write_bytes(os.urandom(1 << 20))
    said = synced.usr("push", DATASET, "lab", "-y", "--json", "--progress", "json").ok()
    events = [json.loads(line)["usr_progress"] for line in said.err.splitlines()]
    assert {"scan", "plan", "move"} <= {event["phase"] for event in events}
    schema = json.loads((SCHEMAS / "progress.json").read_text())
    for line in said.err.splitlines():
        jsonschema.validate(json.loads(line), schema)
    assert all(event["done"] <= (event["total"] or event["done"]) for event in events)
    moved = [event for event in events if event["phase"] == "move"][-1]
    assert (moved["done"], moved["files"]) == (moved["total"], moved["files_total"])
    assert said.data["transfer_state"] == "TRANSFERRED"


# ── W30: start-up ───────────────────────────────────────────────────────────────────────
def modules_of(*words):
    """The modules that a command imports, from `-X importtime`; and its standard output."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "usrcli", *words],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def packages(modules):
    return {name.partition(".")[0] for name in modules}


def test_w30_help_imports_next_to_nothing():
    """W30: `--help` took over a second, for it imported pandas, pyarrow and more."""
    found = modules_of("--help")
    assert not packages(found) & (HEAVY | {"yaml", "cryptography", "msgpack", "blake3"})
    ours = {name for name in found if name.startswith("usr")}
    assert ours <= {"usrcli", "usrcli.__main__", "usrcli.main", "usrstore", "usrstore.errors"}


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (["status"], ("yaml", "cryptography", "subprocess")),
        (["status", DATASET], ("yaml", "cryptography", "subprocess")),
        (["diff", DATASET], ("yaml", "cryptography", "subprocess")),
        (["diff", DATASET, "lab"], ("cryptography", "subprocess")),
        (["rev-parse", DATASET], ("yaml", "cryptography", "subprocess")),
        (["show-ref"], ("yaml", "cryptography", "subprocess")),
    ],
    ids=" ".join,
)
def test_w30_looking_at_what_did_not_change_imports_nothing_heavy(synced, words, unneeded):
    assert not packages(modules_of(*words)) & HEAVY.union(unneeded)


# ── JSON ────────────────────────────────────────────────────────────────────────────────
def test_every_command_with_json_has_a_schema_and_every_schema_a_command():
    named = {"error", "audit", "progress"}
    for words, command in render_cli.commands():
        if words == ("drill",) or "--json" not in {o for p in command.params for o in p.opts}:
            continue
        rows = '{"usr_output_version":1,"data":{"dataset":"x","tables":'
        texts = ('{"data":{}}', '{"data":{"transfer_state"', rows)
        found = {schema_of(words, text) for text in texts}
        named |= found
        assert all((SCHEMAS / f"{name}.json").exists() for name in found), words
    assert named == {path.stem for path in SCHEMAS.glob("*.json")}


def test_the_schemas_refuse_what_is_not_documented(synced):
    text = synced.usr("log", DATASET, "--json").ok().out
    validate("log", text)
    with pytest.raises(jsonschema.ValidationError):
        validate("log", text.replace('"kept"', '"stored"'))
    with pytest.raises(jsonschema.ValidationError):
        validate("audit", text)
