"""An edited file is written whole or not at all, and its diff is one that patch applies."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.errors import ExportError
from critical.export.files import unified_diff, write_atomically


def test_a_new_file_is_written_with_its_line_ends(tmp_path: Path) -> None:
    """Bytes are as in the text, permissions as the umask leaves them, and nothing else is left."""
    path = tmp_path / "new.json"
    umask = os.umask(0o027)
    try:
        write_atomically(path, '{\r\n"ε": 1}\n')
    finally:
        os.umask(umask)
    assert path.read_bytes() == '{\r\n"ε": 1}\n'.encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_permissions_of_a_file_in_place_are_kept(tmp_path: Path, mode: int) -> None:
    """A private file stays private and a shared one shared, whatever the umask."""
    path = tmp_path / "config.json"
    path.write_text("old")
    path.chmod(mode)
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    """The file that the link names is replaced, in its own folder."""
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "config.json").write_text("old")
    link = tmp_path / "link.json"
    link.symlink_to(Path("real") / "config.json")
    write_atomically(link, "new")
    assert link.is_symlink()
    assert (folder / "config.json").read_text() == "new"
    assert [each.name for each in folder.iterdir()] == ["config.json"]


@pytest.mark.parametrize("failing", ["fsync", "fchmod"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """A full disk is one sentence; the temporary file is gone."""
    path = tmp_path / "config.json"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, failing, full)
        with pytest.raises(ExportError, match=r"config\.json cannot be written: No space left"):
            write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the bytes reach the disk the name still holds the old text; then the new, whole."""
    path = tmp_path / "config.json"
    path.write_text("old")
    seen: list[str] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        seen.append(path.read_text())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_atomically(path, "new")
    assert seen == ["old", "new"]


def test_a_path_that_cannot_take_a_file_is_refused(tmp_path: Path) -> None:
    """A missing folder, a folder, a pipe, a loop of links."""
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path, sentence in [
        (tmp_path / "none" / "config.json", r"cannot be written: No such file or directory: write"),
        (tmp_path, r"is not a regular file: write --output"),
        (pipe, r"is not a regular file"),
        (loop, r"cannot be written: "),
    ]:
        with pytest.raises(ExportError, match=sentence):
            write_atomically(path, "new")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_no_change_is_no_diff() -> None:
    """The diff of a text with itself is empty."""
    assert unified_diff("a\n", "a\n", "config.json") == ""


def test_a_diff_names_the_file_and_shows_the_change() -> None:
    """Headers as git writes them, and a missing last newline said as patch expects it."""
    assert unified_diff("{\n1}", "{\n2}", "config.json") == (
        "--- a/config.json\n+++ b/config.json\n@@ -1,2 +1,2 @@\n {\n"
        "-1}\n\\ No newline at end of file\n+2}\n\\ No newline at end of file\n"
    )


LINES = st.lists(st.text("ab \u2028\x0c", max_size=4), max_size=8)


@given(before=LINES, after=LINES, ends=st.tuples(st.booleans(), st.booleans()))
def test_patch_turns_one_text_into_the_other(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[str],
    after: list[str],
    ends: tuple[bool, bool],
) -> None:
    """Whatever the lines hold, and with or without a newline at the end."""
    old, new = (
        "\n".join(lines) + "\n" * end for lines, end in zip((before, after), ends, strict=True)
    )
    folder = tmp_path_factory.mktemp("patch")
    path = folder / "config.json"
    path.write_text(old, encoding="utf-8")
    difference = unified_diff(old, new, "config.json")
    assert bool(difference) is (old != new)
    if difference:
        subprocess.run(
            ["patch", "--quiet", str(path)], input=difference.encode(), check=True, timeout=20
        )
        patched = path.read_text(encoding="utf-8") if path.exists() else ""
        assert patched == new
