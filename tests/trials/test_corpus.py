"""The token file: what it holds, how it is written, and every text that cannot be one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from critical.trials.corpus import Reading, prepare
from critical.trials.errors import CorpusError
from critical.trials.text_files import FEWEST_BYTES, MOST_BYTES


def test_the_token_file_is_the_text(text_file: Path, tmp_path: Path) -> None:
    """One byte a token, under the SHA-256 of the content."""
    corpus = prepare(text_file, tmp_path / "new" / "folder")
    data = text_file.read_bytes()
    assert corpus.path.read_bytes() == data
    assert corpus.tokens == len(data)
    assert corpus.digest == hashlib.sha256(data).hexdigest()
    assert corpus.digest[:16] in corpus.path.name


def test_preparing_again_changes_nothing(text_file: Path, tmp_path: Path) -> None:
    """The same text is the same corpus, and its file is not written again."""
    first = prepare(text_file, tmp_path / "corpora")
    written = first.path.stat().st_mtime_ns
    assert prepare(text_file, tmp_path / "corpora") == first
    assert first.path.stat().st_mtime_ns == written


def test_another_text_is_another_file(text_file: Path, tmp_path: Path) -> None:
    """Two studies in one folder keep their own."""
    first = prepare(text_file, tmp_path / "corpora")
    text_file.write_text("b" * FEWEST_BYTES)
    second = prepare(text_file, tmp_path / "corpora")
    assert first.path != second.path
    assert first.path.exists()


def test_the_default_is_the_standard_library(tmp_path: Path) -> None:
    """Megabytes of text without a download, the same each time."""
    corpus = prepare(None, tmp_path)
    assert corpus.tokens > 2**20
    assert prepare(None, tmp_path / "other").digest == corpus.digest


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    """All text below it, whatever order the files were made in; binaries are passed over."""
    folder = tmp_path / "texts"
    (folder / "b").mkdir(parents=True)
    (folder / "c.txt").write_text("c" * 2000)
    (folder / "b" / "inner.md").write_text("b" * 2000)
    (folder / "a.txt").write_text("a" * 2000)
    (folder / "aa.bin").write_bytes(b"\x00\x01" * 2000)
    corpus = prepare(folder, tmp_path / "corpora")
    assert corpus.path.read_text() == "a" * 2000 + "b" * 2000 + "c" * 2000


def test_a_long_text_is_cut_even_within_a_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three bytes of a four-byte character at the end are still text."""
    assert MOST_BYTES >= 2**20
    monkeypatch.setattr("critical.trials.text_files.MOST_BYTES", 5003)
    path = tmp_path / "emoji.txt"
    path.write_text("🙂" * 2000)
    assert prepare(path, tmp_path / "corpora").tokens == 5003


def test_a_damaged_token_file_is_written_again(text_file: Path, tmp_path: Path) -> None:
    """Also where its length is right."""
    corpus = prepare(text_file, tmp_path / "corpora")
    good = corpus.path.read_bytes()
    for damaged in (b"\0" * len(good), good[:-1]):
        corpus.path.write_bytes(damaged)
        assert prepare(text_file, tmp_path / "corpora").path.read_bytes() == good


def test_a_crash_while_writing_leaves_nothing_half_written(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token file appears by a rename, once it is whole, and no leftover stays."""

    def crash(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    folder = tmp_path / "corpora"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            prepare(text_file, folder)
    assert list(folder.iterdir()) == []
    assert prepare(text_file, folder).path.exists()


def test_a_missing_corpus(tmp_path: Path) -> None:
    """The message names the path and what to give."""
    with pytest.raises(CorpusError, match=r"nowhere does not exist: give a text file or a folder"):
        prepare(tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize("size", [0, 1, FEWEST_BYTES - 1])
def test_too_small_a_corpus(size: int, tmp_path: Path) -> None:
    """An empty file included; the message says how much is needed."""
    path = tmp_path / "small.txt"
    path.write_text("x" * size)
    with pytest.raises(CorpusError, match=rf"holds {size} bytes of text: give at least 4096"):
        prepare(path, tmp_path)


def test_an_empty_folder(tmp_path: Path) -> None:
    """It holds no text; so does a folder of binaries alone."""
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(CorpusError, match="empty holds 0 bytes of text"):
        prepare(folder, tmp_path)
    (folder / "image").write_bytes(b"\xff\xd8" * 9000)
    with pytest.raises(CorpusError, match="empty holds 0 bytes of text"):
        prepare(folder, tmp_path)


@pytest.mark.parametrize("data", [b"\0" * 9000, b"\xff\xfe" * 9000, "é".encode("latin-1") * 9000])
def test_a_binary_file(data: bytes, tmp_path: Path) -> None:
    """Zero bytes, UTF-16 and Latin-1 are not UTF-8 text."""
    path = tmp_path / "data"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"data is not text \(UTF-8\)"):
        prepare(path, tmp_path)


def test_something_that_is_neither_file_nor_folder(tmp_path: Path) -> None:
    """A device, for one."""
    with pytest.raises(CorpusError, match="/dev/null is neither a file nor a folder"):
        prepare(Path("/dev/null"), tmp_path)


@pytest.mark.parametrize("folder", [False, True])
def test_an_unreadable_corpus(
    folder: bool, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file or a folder that this user may not read is named; it is not passed over."""
    place = tmp_path / "closed"
    place.mkdir()

    def refuse(path: object, *rest: object, **more: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir" if folder else "pathlib.Path.open", refuse)
    with pytest.raises(CorpusError, match=r"corpus /.* cannot be read \(Permission denied\): give"):
        prepare(place if folder else text_file, tmp_path / "corpora")


def test_a_folder_that_cannot_be_written(text_file: Path, tmp_path: Path) -> None:
    """A file stands where the folder should; the message says what to change."""
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    with pytest.raises(CorpusError, match=r"cannot be written \(.*\): give another --work-dir"):
        prepare(text_file, blocked)


def test_the_default_text_of_a_folder_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study goes on under another Python; a damaged file is not taken for the old text."""
    first = prepare(None, tmp_path)
    newer = b"# Another version of the library.\n" * 200
    monkeypatch.setattr("critical.trials.corpus.standard_library", lambda: newer)
    assert prepare(None, tmp_path) == first
    assert prepare(None, tmp_path / "new").path.read_bytes() == newer
    first.path.write_bytes(b"damaged")
    assert prepare(None, tmp_path).path.read_bytes() == newer


@pytest.mark.parametrize(
    "memory", ["", "[]", "{}", '{"digest": "../x", "symbols": 256}', '{"digest": 1, "symbols": []}']
)
def test_a_damaged_memory_is_not_read(memory: str, tmp_path: Path) -> None:
    """What a folder remembers of its default text may be torn; the text is read anew."""
    first = prepare(None, tmp_path)
    (tmp_path / "default-text.json").write_text(memory)
    assert prepare(None, tmp_path) == first


@pytest.mark.parametrize(
    ("name", "reading", "message"),
    [
        (None, Reading(vocabulary=9), r"--vocabulary is for token ids, and no corpus is given"),
        ("a.txt", Reading(token_bytes=4), r"--token-bytes is for token ids, and corpus .*a.txt is"),
        (None, Reading(text_field="body"), r"--text-field is for JSONL, and no corpus is given"),
        ("a.txt", Reading(text_field="body"), r"has no file whose name ends in .jsonl or .ndjson"),
        ("a.bin", Reading(text_field="body"), r"token ids already, so --text-field cannot be used"),
        (
            "a.bin",
            Reading(tokenizer=Path("t")),
            r"token ids already, so --tokenizer cannot be used",
        ),
    ],
)
def test_a_reading_that_does_not_suit(
    name: str | None, reading: Reading, message: str, tmp_path: Path
) -> None:
    """An option that would be ignored is refused, with what to change."""
    source = None if name is None else tmp_path / name
    if source is not None:
        source.write_text("x" * FEWEST_BYTES)
    with pytest.raises(CorpusError, match=message):
        prepare(source, tmp_path / "corpora", reading)
