"""``critical audit`` in process: what it prints, its statuses, files that nobody trains with."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from critical.audit import CODES
from critical.cli.application import _status
from critical.cli.audit_view import audit_view
from critical.cli.auditing import audit_file
from critical.cli.console import PlainConsole
from critical.running.search import Search

Within = Callable[[float], AbstractContextManager[None]]

Run = Callable[..., "Result"]
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-05,
}


class Result:
    """What a command left behind."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def flat(self) -> str:
        """Standard output with every break and indentation one space."""
        return " ".join(self.out.split())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``critical audit`` in an empty folder, as ``main`` does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CRITICAL_STORAGE", raising=False)

    def command(*arguments: str | Path) -> Result:
        status = _status(["audit", *map(str, arguments)])
        printed = capsys.readouterr()
        return Result(status, printed.out, printed.err)

    return command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Llama-3-8B's config.json."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA))
    return path


def refused(result: Result, words: str) -> None:
    """Exit status 2, one sentence on standard error that has these words, and nothing else."""
    assert result.status == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1, result.err
    assert result.err.startswith("critical: ")
    assert words in result.err


def test_it_tells_a_person_what_is_drawn_and_what_restrains_it(run: Run, config: Path) -> None:
    """A line for all that are drawn alike, then each finding with its reason and remedy."""
    result = run("config.json")
    assert result.status == 0
    assert result.err == ""
    assert result.out.startswith(
        "config.json: llama of hf, width 4096, 32 blocks, γ 0.409 to 0.470"
    )
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in result.out.splitlines()
        if line.startswith("│")
    ]
    assert [row[:4] for row in rows if row[0]] == [
        ["194", "4096", "0.02", "0.470"],
        ["32", "14336", "0.02", "0.409"],
    ]
    named = " ".join(row[4] for row in rows)
    assert named.split(", ")[:2] == ["model.embed_tokens", "self_attn.q_proj"]
    assert named.endswith("mlp.up_proj, lm_head mlp.down_proj")
    assert "first norm: rms_norm_eps 1e-05, output RMS 0.988 now" in result.flat
    assert "1. norm-eps (derived) what rms_norm_eps 1e-05 holds" in result.flat
    assert "instead rms_norm_eps: 4.0e-06 or less" in result.flat
    assert "• --gamma G or --study STUDY holds every matrix against that γ" in result.flat


def test_a_gamma_adds_what_each_matrix_should_have(run: Run, config: Path) -> None:
    """4096^−.7 and 14336^−.7, and how many times that is drawn."""
    out = run(config, "--gamma", "0.7").flat
    assert "held against γ 0.7 (--gamma)" in out
    assert "│ 0.02 │ 0.470 │ 0.00296 │ 6.756 │" in out
    assert "│ 0.02 │ 0.409 │ 0.001232 │ 16.24 │" in out
    assert "output RMS 0.988 now, 0.683 at γ 0.7" in out
    assert "--study STUDY" not in out


def test_json_is_one_document(run: Run, config: Path) -> None:
    """With every matrix group, and null where there is no γ to hold it against."""
    result = run(config, "--json", "--gamma", "0.7")
    document = json.loads(result.out)
    assert result.status == 0
    assert list(document) == [
        "file", "framework", "model", "width", "depth", "gamma", "matrices", "drift",
        "saturation", "findings", "remarks", "critical_version",
    ]  # fmt: skip
    assert document["file"] == str(config)
    assert document["gamma"] == {"recommended": 0.7, "source": "--gamma", "conditions": []}
    assert len(document["matrices"]) == 9
    down = next(one for one in document["matrices"] if "down_proj" in one["name"])
    assert (down["count"], down["fan_in"], down["shape"]) == (32, 14336, [4096, 14336])
    assert down["wanted"] == 14336**-0.7
    assert {one["certainty"] for one in document["findings"]} <= {"derived", "hypothesis"}
    plain = json.loads(run(config, "--json").out)
    assert plain["gamma"]["recommended"] is None
    assert {one["ratio"] for one in plain["matrices"]} == {None}


def test_strict_exits_with_one_if_anything_is_found(run: Run, config: Path) -> None:
    """After all is printed; with 0 where nothing is."""
    strict = run(config, "--strict", "--json")
    assert strict.status == 1
    assert strict.err == ""
    assert json.loads(strict.out)["findings"]
    assert run(config).status == 0
    # With heads of 16 every fan-in is 512.
    exact = {
        **LLAMA,
        "model_type": "qwen3",
        "hidden_size": 512,
        "head_dim": 16,
        "intermediate_size": 512,
        "initializer_range": 512**-0.6,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    }
    config.write_text(json.dumps(exact))
    clean = run(config, "--strict", "--gamma", "0.6")
    assert (clean.status, "no findings" in clean.out) == (0, True)
    assert "input and output embedding are one matrix" in clean.flat


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no.json"], "no.json does not exist: write the path of a training configuration"),
        (["."], ". is a folder: write the file in it"),
        (["config.json", "--framework", "keras"], "framework 'keras' is not known: write one of"),
        (["config.json", "--gamma", "0"], "γ 0.0 is not in (0, 4]: write one, as 0.7"),
        (["config.json", "--gamma", "nan"], "γ nan is not in (0, 4]"),
        (["config.json", "--gamma", "inf"], "γ inf is not in (0, 4]"),
        (["config.json", "--gamma", "small"], "--gamma"),
        (["config.json", "--gamma", ".7", "--study", "s"], "--gamma and --study exclude each"),
        (["config.json", "--settings", "relaxed"], "--settings are those of a study: write"),
        (["config.json", "--study", "s"], "there is no store at"),
        ([], "Missing argument"),
    ],
)
def test_a_mistake_is_one_sentence(run: Run, arguments: list[str], words: str) -> None:
    """And exit status 2, --strict or not."""
    refused(run(*arguments), words)
    refused(run(*arguments, "--strict", "--json"), words)


def test_a_studys_gamma_is_one_to_hold_against(run: Run, config: Path, finished: Search) -> None:
    """At the width of the file, with what it rests on."""
    url = finished.history.store.url
    found = json.loads(run(config, "--study", "default", "--storage", url, "--json").out)
    assert found["gamma"]["source"] == "study default"
    assert 0.3 < found["gamma"]["recommended"] < 1.2
    assert all(isinstance(one["ratio"], float) for one in found["matrices"])
    first = found["findings"][0]
    assert first["code"] == "not-at-gamma"
    assert f"critical export default --to hf --config {config} --bundle" in first["instead"]
    refused(run(config, "--study", "nope", "--storage", url), "no study 'nope' in")


HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "binary": ("c.json", bytes(range(256)), "is not UTF-8 text (byte 128)"),
    "empty": ("c.json", b"", "c.json is empty: write the path"),
    "list": ("c.json", b"[1]", "write a JSON object"),
    "huge": ("c.json", b'{"a": "' + b"a" * (11 << 20) + b'"}', "is over 10 MiB"),
    "deep": ("c.json", b'{"a":' * 100_000, "nested too deeply"),
    "twice": ("c.json", b'{"model_type": "llama", "model_type": "gpt2"}', "twice"),
    "nan": ("c.json", b'{"model_type": "llama", "hidden_size": NaN}', "holds NaN"),
    "long": ("c.json", b'{"model_type": "llama", "hidden_size": 1e999}', "overflows"),
    "wide": ("c.json", b'{"model_type": "llama", "hidden_size": "wide"}', "the string 'wide'"),
    "nested": ("c.json", b'{"model_type": {"a": 1}}', "model_type is an object"),
    "code": ("c.json", b'{"model_type": "../../etc"}', "write a family's name"),
    "escape": ("c.json", b'{"model_type": "ll\\u001b[2Jama"}', "write a family's name"),
    "nobody's": ("c.json", b'{"colour": "red"}', "has the keys of no framework"),
    "escaped": ("c\x1b[2J\r.json", b'{"colour": 1}', "c␛[2J␍.json has the keys of no"),
    "deep yaml": ("c.yaml", b"a: " + b"[" * 20_000, "nested too deeply"),
    "twice in yaml": ("c.yaml", b"model: {a: 1, a: 2}\n", "gives the key 'a' twice"),
    "itself": ("c.yaml", b"a: &a\n  b: *a\n", "has an alias into itself"),
    "tag": ("c.yaml", b"a: !!python/object/apply:os.system [ls]\n", "line 1"),
    "bomb": (
        "c.yaml",
        b"a: &a [1,1,1,1,1,1,1,1,1]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (ord("b") + n, ord("b") + n, b",".join([b"*%c" % (97 + n)] * 9))
            for n in range(9)
        ),
        "holds too many values",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_nobody_trains_with_is_refused(
    run: Run, tmp_path: Path, case: str, within: Within
) -> None:
    """In a sentence without a control character, and before anybody loses patience."""
    name, content, words = HOSTILE[case]
    (tmp_path / name).write_bytes(content)
    with within(2):
        result = run(name)
    refused(result, words)
    assert not set("\x1b\r\x07") & set(result.err)


def test_a_fifo_is_not_waited_for(run: Run, tmp_path: Path) -> None:
    """Nor is a device read without end."""
    os.mkfifo(tmp_path / "c.json")
    refused(run("c.json"), "c.json is not a regular file")
    refused(run("/dev/zero"), "/dev/zero is not a regular file")


def test_a_file_with_escapes_in_its_name_controls_no_terminal(run: Run, tmp_path: Path) -> None:
    """Where it can be read: in the headline, in the command to paste, and in JSON."""
    name = "c\x1b]0;owned\x07\x9b2J.json"
    (tmp_path / name).write_text(json.dumps(LLAMA))
    shown = run(name)
    assert shown.status == 0
    assert shown.out.startswith("c␛]0;owned")
    document = run(name, "--json", "--gamma", "0.7").out
    for text in (shown.out, document):
        assert not set("\x1b\x07\x9b\r") & set(text)
    assert json.loads(document)["file"] == name


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_lost_on_a_narrow_terminal(config: Path, width: int) -> None:
    """No line is longer than it, and every word is there."""
    found = audit_file(config, None, 0.7, None, None, None)
    drawn = PlainConsole(
        width=width, record=True, highlight=False, markup=False, emoji=False, file=io.StringIO()
    )
    for view in audit_view(found):
        drawn.print(view)
    text = drawn.export_text()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    letters = "".join(text.split())
    for finding in found.findings:
        for said in (finding.what, finding.why, finding.instead):
            assert "".join(said.split()) in letters
    for matrix in ("self_attn.q_proj", "mlp.down_proj", "lm_head"):
        assert matrix in letters.replace("│", "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.dictionaries(st.sampled_from(sorted(LLAMA)[:-2]), JSON, min_size=1, max_size=2))
def test_any_value_of_any_key_is_read_or_refused(
    run: Run, tmp_path: Path, keys: dict[str, Any]
) -> None:
    """Never with a traceback."""
    file = tmp_path / "c.json"
    file.write_text(json.dumps({**LLAMA, **keys, "model_type": "llama"}))
    result = run("c.json", "--json", "--gamma", "0.7")
    if result.status == 0:
        assert json.loads(result.out)["model"] == "llama"
    else:
        refused(result, "c.json")


def test_findings_can_be_left_out_by_code(run: Run) -> None:
    """So that --strict can pass; a code that there is not is refused with all of them."""
    Path("c.json").write_text(json.dumps(LLAMA))
    codes = [each["code"] for each in json.loads(run("c.json", "--json").out)["findings"]]
    ignored = [word for code in codes for word in ("--ignore", code)]
    left = run("c.json", "--strict", *ignored)
    assert left.status == 0
    assert f"ignored as asked: {', '.join(codes)}" in left.flat
    assert run("c.json", "--strict", *ignored[2:]).status == 1
    refused = run("c.json", "--ignore", "sinks")
    assert refused.status == 2
    assert "--ignore 'sinks' is no finding: write not-at-gamma, " in refused.err


def test_every_finding_that_can_be_ignored_is_documented() -> None:
    """In docs/audit.md."""
    text = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    assert [code for code in CODES if f"`{code}`" not in text] == []


def test_what_is_printed_into_a_pipe_has_no_padding(run: Run) -> None:
    """A line ends with its last letter."""
    Path("c.json").write_text(json.dumps(LLAMA))
    lines = run("c.json").out.splitlines()
    assert all(line == line.rstrip() for line in lines)


def test_output_that_has_no_place_is_told_in_a_sentence(tmp_path: Path) -> None:
    """And γ is printed where the terminal has ASCII only."""
    config = tmp_path / "c.json"
    config.write_text(json.dumps(LLAMA))
    command = [sys.executable, "-m", "critical", "audit", str(config)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "critical: the output cannot be written: No space left on device\n"
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    printed = subprocess.run(command, env=ascii_only, capture_output=True, text=True, check=True)
    assert "\\u03b3 0.470" in printed.stdout
