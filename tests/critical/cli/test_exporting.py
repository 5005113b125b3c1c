"""``critical export`` in process: which text goes where, and what is never written over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from critical.cli.application import _status

Run = Callable[..., tuple[int, str, str]]
NANOGPT = "n_layer = 4\nn_head = 4\nn_embd = 256\n"
LLAMA = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "intermediate_size": 688,
    "vocab_size": 512,
    "initializer_range": 0.02,
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``critical export --gamma 0.7`` beside two configurations, as ``main`` does."""
    monkeypatch.chdir(tmp_path)
    Path("train_x.py").write_text(NANOGPT)
    Path("config.json").write_text(json.dumps(LLAMA))

    def command(to: str, config: str, *arguments: str) -> tuple[int, str, str]:
        status = _status(["export", "--to", to, "--config", config, "--gamma", "0.7", *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return command


def test_where_no_key_holds_gamma_the_code_goes_where_the_edit_would(run: Run) -> None:
    """To standard output and to --output alike; never the configuration as it was."""
    _, printed, _ = run("nanogpt", "train_x.py")
    status, _, said = run("nanogpt", "train_x.py", "--output", "critical_init.py")
    assert status == 0
    assert Path("critical_init.py").read_text() == printed
    assert printed.startswith('"""Draws every weight matrix')
    assert "critical_init.py makes it exact: in train.py, call" in said


def test_where_no_key_holds_gamma_nothing_is_replaced_in_place(run: Run) -> None:
    """There is nothing to change in the file; the sentence says what to write instead."""
    status, printed, said = run("nanogpt", "train_x.py", "--in-place")
    assert (status, printed) == (2, "")
    assert "no key of nanogpt holds γ, and train_x.py stays as it is: write --bundle" in said
    assert Path("train_x.py").read_text() == NANOGPT


def test_a_diff_names_no_file_that_is_not_written(run: Run) -> None:
    """Nor tells how to use it."""
    status, printed, said = run("nanogpt", "train_x.py", "--diff")
    assert (status, printed) == (0, "")
    assert "--bundle FOLDER writes critical_init.py" in said
    assert "makes it exact: in train.py" not in said


def test_a_bundle_replaces_no_configuration_unasked(run: Run) -> None:
    """In the configuration's own folder it would; with --in-place that is what is asked for."""
    before = Path("config.json").read_text()
    status, _, said = run("hf", "config.json", "--bundle", ".")
    assert status == 2
    assert "--bundle . would replace config.json: write another folder, or --in-place too" in said
    assert Path("config.json").read_text() == before
    assert run("hf", "config.json", "--bundle", ".", "--in-place")[0] == 0
    assert json.loads(Path("config.json").read_text())["initializer_range"] == 256**-0.7
