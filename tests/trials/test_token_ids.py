"""Files of token ids: what is read of them, and every file that cannot be one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.trials.corpus import FEWEST_TOKENS, Reading, prepare
from critical.trials.errors import CorpusError
from critical.trials.randomness import generator
from critical.trials.token_file import TokenFile
from critical.trials.token_ids import MOST_SYMBOLS, read_ids

Ids = list[int]


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Where a test writes its ids."""
    return tmp_path / "train.bin"


def write(path: Path, ids: Ids, size: int = 2) -> None:
    """As numpy's ``tofile`` does, and nanoGPT with it."""
    np.array(ids, dtype=f"<u{size}").tofile(path)


@pytest.mark.parametrize(("most", "cut"), [(10_000, False), (9_998, True)])
def test_it_is_told_when_ids_are_cut(
    most: int, cut: bool, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a longer file as many bytes are read as are allowed."""
    write(tokens, [7] * 5000)
    monkeypatch.setattr("critical.trials.token_ids.MOST_BYTES", most)
    corpus = prepare(tokens, tmp_path / "corpora")
    assert (corpus.tokens, corpus.cut) == (most // 2, cut)


@given(st.lists(st.integers(1, 2**16 - 1), min_size=1), st.sampled_from([2, 4]))
def test_ids_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, ids: Ids, size: int
) -> None:
    """In either size; the vocabulary ends with the greatest unless another is given."""
    path = tmp_path_factory.mktemp("tokens") / "train.bin"
    write(path, ids, size)
    found = read_ids(path, size, None)
    assert found.ids.tolist() == ids
    assert found.symbols == max(ids) + 1
    assert read_ids(path, size, 2**17).symbols == 2**17


@pytest.mark.parametrize(("greatest", "size", "kept"), [(200, 4, 1), (50256, 2, 2), (70_000, 4, 4)])
def test_windows_of_a_token_file(
    greatest: int, size: int, kept: int, tokens: Path, tmp_path: Path
) -> None:
    """The worker sees the ids that were given, kept in as few bytes as they need."""
    ids = [1 + place * 97 % greatest for place in range(6000)]
    write(tokens, [*ids, greatest], size)
    corpus = prepare(tokens, tmp_path / "corpora", Reading(token_bytes=size))
    assert (corpus.symbols, corpus.tokens) == (greatest + 1, 6001)
    assert corpus.path.stat().st_size == kept * 6001
    window = TokenFile(corpus).windows(1, 64, generator("test"))[0].tolist()
    assert window in [ids[start : start + 65] for start in range(6000 - 64)]


def test_the_digest_tells_vocabularies_apart(tokens: Path, tmp_path: Path) -> None:
    """The same ids in another vocabulary give another model; in another size they do not."""
    ids = [1 + place % 300 for place in range(FEWEST_TOKENS)]
    write(tokens, ids)
    first = prepare(tokens, tmp_path)
    larger = prepare(tokens, tmp_path, Reading(vocabulary=512))
    assert first.digest != larger.digest
    assert first.path != larger.path
    write(tokens, ids, 4)
    assert prepare(tokens, tmp_path, Reading(token_bytes=4)) == first


@pytest.mark.parametrize(
    ("data", "reading", "message"),
    [
        (b"\1" * 9001, Reading(), r"holds 9001 bytes, no whole number of 2-byte token ids"),
        (b"\1" * 9002, Reading(token_bytes=4), r"9002 bytes, no whole number of 4-byte token ids"),
        (b"", Reading(), r"comes to 0 tokens: give at least 4096"),
        (b"\1\0" * 4095, Reading(), r"comes to 4095 tokens: give at least 4096"),
        (b"\7\0\0\0" * 5000, Reading(), r"as if ids had 4 bytes: write --token-bytes 4"),
        (b"\7\1" * 5000, Reading(vocabulary=256), r"has the token id 263, but --vocabulary is 256"),
        (b"\7\1" * 5000, Reading(token_bytes=4), r"has the token id 17236231, which no vocabulary"),
        (b"\x88\xd8\x34\x01" * 5000, Reading(), r"begins with a header of llm.c: give it without"),
    ],
)  # fmt: skip
def test_a_file_of_other_bytes(
    data: bytes, reading: Reading, message: str, tokens: Path, tmp_path: Path
) -> None:
    """The message names the file and what to write."""
    tokens.write_bytes(data)
    with pytest.raises(CorpusError, match=message) as caught:
        prepare(tokens, tmp_path / "corpora", reading)
    assert str(tokens) in str(caught.value)


def test_ids_that_no_vocabulary_has(tokens: Path) -> None:
    """Their embedding alone would fill the memory."""
    write(tokens, [MOST_SYMBOLS] * 5000, 4)
    with pytest.raises(CorpusError, match=rf"give ids below {MOST_SYMBOLS} of 4 bytes"):
        read_ids(tokens, 4, None)


def test_a_missing_file_of_ids(tokens: Path, tmp_path: Path) -> None:
    """The message says what may stand there."""
    with pytest.raises(CorpusError, match=r"train.bin does not exist: give a file of token ids"):
        prepare(tokens, tmp_path)


def test_a_folder_whose_name_ends_in_bin(tmp_path: Path) -> None:
    """It is a folder of text like any other."""
    folder = tmp_path / "texts.bin"
    folder.mkdir()
    (folder / "a.txt").write_text("a" * 5000)
    assert prepare(folder, tmp_path / "corpora").tokens == 5000


def test_wide_ids_are_not_read_as_narrow_ones(tokens: Path) -> None:
    """A vocabulary of 128,256 has upper halves of 0 and 1, which no text of 2-byte ids has."""
    write(tokens, np.random.default_rng(0).integers(0, 128_256, 5000).tolist(), 4)
    with pytest.raises(CorpusError, match=r"every second 2-byte id .* next to 0.* --token-bytes 4"):
        read_ids(tokens, None, None)
    assert len(read_ids(tokens, 4, None).ids) == 5000
    write(tokens, np.random.default_rng(0).integers(0, 9, 5000).tolist())
    assert len(read_ids(tokens, None, None).ids) == 5000
