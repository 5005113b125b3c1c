"""What others wrote is shown as text: it controls no terminal, and a typed password is hidden."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from critical.cli.console import PlainConsole
from critical.cli.output import Output, say
from critical.cli.visible import escaped_json, visible, visible_line

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b2J\r\x08\u202e\u2066\x00\x7f\ud800"


def _obeyed(text: str) -> list[str]:
    """Letters that a terminal does not show."""
    return [letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs")]


@given(st.text(st.characters(exclude_categories=[])))
def test_no_control_character_remains(text: str) -> None:
    """But for line ends and tabs; each becomes one letter, so that columns stay as they are."""
    shown = visible(text)
    assert set(_obeyed(shown)) <= {"\n", "\t"}
    assert len(shown) == len(text)
    assert _obeyed(visible_line(text)) in ([], ["\t"] * text.count("\t"))
    shown.encode()


@given(st.text())
@example(HOSTILE)
def test_json_stays_the_same_document(text: str) -> None:
    """What is shown of it on a terminal is escaped."""
    written = escaped_json(json.dumps({text: [text]}, ensure_ascii=False))
    assert json.loads(written) == {text: [text]}
    assert _obeyed(written) == []


def test_tables_and_texts_are_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever Rich is given, in a table's title too; its own colours remain."""
    table = Table("column", title=f"title {HOSTILE}")
    table.add_row(f"cell {HOSTILE}")
    Output(as_json=False).show(f"plain {HOSTILE}", Text(f"text {HOSTILE}"), table)
    out = capsys.readouterr().out
    assert set(_obeyed(out)) == {"\n"}
    assert not set("\u202e\u2066") & set(out)
    assert all(word in out for word in ("plain", "text", "title", "cell"))

    drawn = io.StringIO()
    terminal = PlainConsole(file=drawn, force_terminal=True, color_system="standard")
    terminal.print(Text(HOSTILE, "bold"))
    assert drawn.getvalue().startswith("\x1b[1m")
    assert "\x1b[2J" not in drawn.getvalue()


def test_a_message_is_one_line_without_a_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL may stand where it was typed by mistake; a path with the same signs is left."""
    say(f"no such command postgresql://user:s3@cret@host/base?password=s3cret&x=1\n{HOSTILE}")
    err = capsys.readouterr().err
    assert "postgresql://user:***@host/base?password=***&x=1" in err
    assert _obeyed(err) == ["\n"]
    for text in ("sqlite:////home/me@here/x:y.db", "http://127.0.0.1:80/  (Ctrl-C stops)"):
        say(text)
        assert capsys.readouterr().err == f"{text}\n"


def test_a_document_is_cleaned_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is UTF-8, which has no half letters."""
    written = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", written)
    Output(as_json=True).document({"reason": HOSTILE})
    written.seek(0)
    assert json.loads(written.read()) == {"reason": HOSTILE}
