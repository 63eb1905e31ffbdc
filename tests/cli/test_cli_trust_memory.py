"""usr trust show, pin, unpin, remove, accept: what is remembered of remotes, and changing one's mind."""

from __future__ import annotations

import shutil

import pytest

from support import datasets
from support.datasets import DATASET
from support.lab import fingerprint


@pytest.fixture
def bob(synced, configs):
    """ada has pushed; bob has pulled it into a root of his own, and `usr` runs as bob."""
    synced.use(configs["bob"])
    home = synced.home / "bob"
    home.mkdir()
    synced.patch.setenv("USR_ROOT", str(home))
    synced.bob = home
    synced.usr("pull", DATASET, "lab", "-y").ok()
    return synced


def signs(lab, config, text):
    """Somebody changes the dataset at the remote and signs it there."""
    lab.use(config)
    (lab.far / "meta.md").write_text(text)
    lab.usr("--root", lab.there, "commit", DATASET).ok()


def test_what_is_remembered_is_shown_by_remote_and_dataset(bob, configs):
    ada = fingerprint(configs["ada"])
    [row] = bob.usr("trust", "show", "--json").ok().data
    assert (row["remote"], row["dataset"], row["signed"]) == ("lab", DATASET, True)
    assert [pin["key"] for pin in row["pins"]] == [ada]
    assert row["pins"][0]["since_us"] > 1_600_000_000_000_000
    assert row["manifest"] == bob.refs(bob.bob)[f"remotes/lab/{DATASET}"]
    assert row["state"]["number"] >= 1
    said = bob.usr("trust", "show", "lab", DATASET).ok()
    assert said.lines[0] == f"lab {DATASET}"
    assert said.lines[1].startswith(f"  pinned  {ada}  since ")
    assert said.lines[2].startswith(f"  newest  {row['manifest'][:12]}")
    assert bob.usr("trust", "show", "elsewhere").ok().out == ""
    bob.usr("trust", "add", "--name", "ada", "--key", configs["ada"] / "usr" / "id_ed25519.pub")
    assert bob.usr("trust", "show").lines[1].endswith("  ada")


def test_a_new_signer_is_refused_until_pinned_and_again_once_unpinned(bob, configs):
    signs(bob, configs["eve"], "eve was here")
    bob.use(configs["bob"])
    bob.usr("pull", DATASET, "lab", "-y").failed("signer-unknown", 7)
    eve = fingerprint(configs["eve"])
    said = bob.usr("trust", "pin", "lab", DATASET, "--key", eve).ok()
    assert said.out == f"{eve} is pinned for {DATASET} at lab\n"
    bob.usr("pull", DATASET, "lab", "-y").ok()
    bob.usr("trust", "unpin", "lab", DATASET, "--key", eve, "--json").ok()
    signs(bob, configs["eve"], "and again")
    bob.use(configs["bob"])
    bob.usr("pull", DATASET, "lab", "-y").failed("signer-unknown", 7)
    assert (
        bob.usr("trust", "unpin", "lab", DATASET)
        .ok()
        .out.endswith("pinned no more for ns/x at lab\n")
    )
    bob.usr("pull", DATASET, "lab", "-y").ok()  # first sight, once more
    assert bob.usr("trust", "list", "--json").data["pins"] == {f"lab {DATASET}": [eve]}


@pytest.mark.parametrize("key", ["file", "line", "fingerprint"])
def test_a_key_is_pinned_before_it_was_ever_seen(synced, configs, key):
    public = configs["eve"] / "usr" / "id_ed25519.pub"
    word = {
        "file": str(public),
        "line": public.read_text().strip(),
        "fingerprint": fingerprint(configs["eve"]),
    }[key]
    data = synced.usr("trust", "pin", "lab", DATASET, "--key", word, "--json").ok().data
    assert data == {"remote": "lab", "dataset": DATASET, "keys": [fingerprint(configs["eve"])]}
    signs(synced, configs["bob"], "not eve")
    synced.use(configs["ada"])
    synced.usr("pull", DATASET, "lab", "-y").failed("signer-unknown", 7)


def test_what_is_not_pinned_or_listed_cannot_be_taken_out(bob):
    bob.usr("trust", "unpin", "other", DATASET).failed("pin-not-found", 4)
    bob.usr("trust", "unpin", "lab", DATASET, "--key", f"SHA256:{'A' * 43}").failed(
        "pin-not-found", 4
    )
    bob.usr("trust", "remove", "nobody").failed("signer-not-found", 4)
    bob.usr("trust", "pin", "lab", DATASET, "--key", "SHA256:short").failed("invalid-input", 3)


@pytest.mark.parametrize("word", ["name", "fingerprint"])
def test_a_signer_taken_out_is_believed_no_more_and_comments_stay(bob, configs, word):
    public = configs["eve"] / "usr" / "id_ed25519.pub"
    bob.usr("trust", "add", "--name", "eve", "--key", public).ok()
    path = bob.bob / ".usr" / "allowed_signers"
    path.write_text(f"# the lab\n{path.read_text()}\n# end\n")
    signs(bob, configs["eve"], "eve was here")
    bob.use(configs["bob"])
    bob.usr("pull", DATASET, "lab", "-y").ok()
    name = "eve" if word == "name" else fingerprint(configs["eve"])
    assert "no longer believed" in bob.usr("trust", "remove", name).ok().out
    assert path.read_text().startswith("# the lab\n")
    assert path.read_text().endswith("# end\n")
    signs(bob, configs["eve"], "once more")
    bob.use(configs["bob"])
    bob.usr("pull", DATASET, "lab", "-y").failed("signer-unknown", 7)


# ── going back, and another history ───────────────────────────────────────────────────────
@pytest.fixture
def back(bob, configs):
    """The remote goes back to where it was before ada's second state, which bob has seen."""
    shutil.copytree(bob.there, bob.home / "backup")
    signs(bob, configs["ada"], "second")
    bob.use(configs["bob"])
    bob.usr("pull", DATASET, "lab", "-y").ok()
    shutil.rmtree(bob.there)
    shutil.copytree(bob.home / "backup", bob.there)
    return bob


@pytest.mark.spec("T-3")
def test_a_remote_that_went_back_is_believed_once_a_person_accepts_it(back):
    before = back.everything()
    said = back.usr("pull", DATASET, "lab", "-y").failed("rollback", 7)
    assert f"usr trust accept lab {DATASET}" in said.err
    assert back.everything() == before
    said = back.usr("trust", "accept", "lab", DATASET, stdin="n\n")
    assert (said.status, said.err) == (130, "nothing was changed\n")
    back.usr("diff", DATASET, "lab").failed("rollback", 7)
    said = back.usr("trust", "accept", "lab", DATASET, stdin="y\n").ok()
    assert said.out.startswith("seen : state ")
    assert "\nnow  : state " in said.out
    back.usr("diff", DATASET, "lab").ok()
    back.usr("push", DATASET, "lab", "-y", "--force-with-lease").ok()
    assert (back.far / "meta.md").read_text() == "second"


def test_what_was_accepted_is_the_new_mark_and_no_way_back_behind_it(back, configs):
    back.usr("trust", "accept", "lab", DATASET, "-y", "--json").ok()
    back.usr("push", DATASET, "lab", "-y", "--force-with-lease").ok()
    shutil.rmtree(back.there)
    shutil.copytree(back.home / "backup", back.there)
    back.usr("pull", DATASET, "lab", "-y").failed("rollback", 7)


@pytest.mark.spec("T-3")
def test_another_history_is_refused_and_accepted_with_its_signer(back, configs):
    for text in ("a", "b", "c"):
        signs(back, configs["eve"], text)
    back.use(configs["bob"])
    back.usr("pull", DATASET, "lab", "-y").failed("fork", 7)
    back.usr("trust", "accept", "lab", DATASET, "-y").ok()
    back.usr("pull", DATASET, "lab", "-y").failed("signer-unknown", 7)
    data = back.usr("trust", "accept", "lab", DATASET, "-y", "--signer", "--json").ok().data
    assert data["keys"] == [fingerprint(configs["eve"])]
    back.usr("pull", DATASET, "lab", "-y", "--force-with-lease").ok()
    assert (back.bob / DATASET / "meta.md").read_text() == "c"


def test_a_bad_signature_cannot_be_accepted(back, configs, monkeypatch):
    from usrstore.trust import sshsig

    monkeypatch.setattr(sshsig, "check", lambda *_a, **_k: False)
    back.usr("trust", "accept", "lab", DATASET, "-y", "--signer").failed("signature-bad", 7)


# ── standing still ────────────────────────────────────────────────────────────────────────
def settings(lab, text):
    (lab.bob / ".usr" / "config").write_text(text)


@pytest.mark.spec("T-4")
def test_a_remote_that_has_not_moved_for_too_long_is_said_to_be_stale(bob, monkeypatch):
    settings(bob, '[trust]\nmax_age = "7d"\n')
    assert "stale" not in bob.usr("pull", DATASET, "lab", "-y").ok().err
    from usrcli import context

    now = context.now_us()
    monkeypatch.setattr(context, "now_us", lambda: now + 8 * 86400 * 10**6)
    for words in (["diff", DATASET, "lab"], ["pull", DATASET, "lab", "-y"]):
        said = bob.usr(*words).ok()
        assert "note: stale: the newest state of ns/x at lab was signed 8 days ago" in said.err
    settings(bob, '[trust]\nmax_age = "7d"\nstale = "refuse"\n')
    before = datasets.read(bob.bob), bob.refs(bob.bob)
    bob.usr("pull", DATASET, "lab", "-y").failed("stale", 7)
    assert (datasets.read(bob.bob), bob.refs(bob.bob)) == before
    settings(bob, '[trust]\nmax_age = "9d"\nstale = "refuse"\n')
    bob.usr("pull", DATASET, "lab", "-y").ok()


@pytest.mark.parametrize("text", ['max_age = "soon"', "max_age = 7"])
def test_an_age_that_is_none(bob, text):
    settings(bob, f"[trust]\n{text}\n")
    bob.usr("pull", DATASET, "lab", "-y").failed("config", 3)


# ── first sight ───────────────────────────────────────────────────────────────────────────
@pytest.mark.spec("T-2")
def test_an_unsigned_state_is_refused_once_a_signed_one_was_seen_even_if_it_was_ours(
    synced, configs, monkeypatch
):
    """Our own key pins nobody, so that colleagues may follow; but a signature is expected."""
    synced.usr("pull", DATASET, "lab", "-y").ok()
    [row] = synced.usr("trust", "show", "--json").data
    assert (row["pins"], row["signed"]) == ([], True)
    (synced.far / "meta.md").write_text("unsigned")
    monkeypatch.setenv("USR_SIGNING_KEY", "none")
    synced.usr("--root", synced.there, "commit", DATASET).ok()
    monkeypatch.delenv("USR_SIGNING_KEY")
    before = synced.everything()
    synced.usr("pull", DATASET, "lab", "-y").failed("signature-absent", 7)
    assert synced.everything() == before


def test_after_our_own_signature_the_first_colleague_is_pinned(synced, configs):
    synced.usr("pull", DATASET, "lab", "-y").ok()
    signs(synced, configs["bob"], "bob was here")
    synced.use(configs["ada"])
    synced.usr("pull", DATASET, "lab", "-y").ok()
    pins = synced.usr("trust", "list", "--json").data["pins"]
    assert pins == {f"lab {DATASET}": [fingerprint(configs["bob"])]}
