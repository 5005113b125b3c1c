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


def test_a_script_stays_one_that_can_be_run(run: Run) -> None:
    """Its permissions go with its text, to --output and into a bundle."""
    Path("config.json").chmod(0o755)
    run("hf", "config.json", "--output", "edited.json", "--bundle", "out")
    for path in (Path("edited.json"), Path("out/config.json")):
        assert path.stat().st_mode & 0o777 == 0o755
    assert not Path("out/critical_init.py").stat().st_mode & 0o111


def test_a_bundle_replaces_a_bundle_and_nothing_else(run: Run) -> None:
    """A folder that has a file of one of its names, and no report.json, is somebody's own."""
    assert run("hf", "config.json", "--bundle", "out")[0] == 0
    assert run("hf", "config.json", "--bundle", "out")[0] == 0
    Path("own").mkdir()
    Path("own/critical_init.py").write_text("mine")
    status, _, said = run("hf", "config.json", "--bundle", "own")
    assert status == 2
    assert "own is no bundle and has a critical_init.py: write --bundle with another" in said
    assert Path("own/critical_init.py").read_text() == "mine"
    Path("config.json").rename("report.json")
    status, _, said = run("hf", "report.json", "--bundle", "another")
    assert status == 2
    assert "report.json would be lost under the report" in said


def test_an_eps_that_outweighs_the_embedding_is_told(run: Run) -> None:
    """In a sentence, and in the report."""
    Path("config.json").write_text(json.dumps({**LLAMA, "rms_norm_eps": 1e-3}))
    _, _, said = run("hf", "config.json", "--bundle", "out")
    assert "rms_norm_eps 0.001 holds the first norm's output at an RMS of 0.55 at this γ" in said
    norm = json.loads(Path("out/report.json").read_text())["first_norm"]
    assert norm["recommended_output_rms"] == pytest.approx((1 + 1e-3 * 256**1.4) ** -0.5)
    Path("config.json").write_text(json.dumps({**LLAMA, "rms_norm_eps": 1e-9}))
    assert "first norm" not in run("hf", "config.json", "--diff")[2]


def test_a_diff_is_one_that_git_applies_from_here(run: Run) -> None:
    """Its names have the folder; where nothing changes it says so."""
    Path("configs").mkdir()
    Path("config.json").rename("configs/config.json")
    _, printed, _ = run("hf", "configs/config.json", "--diff")
    assert printed.startswith("--- a/configs/config.json\n+++ b/configs/config.json\n")
    run("hf", "configs/config.json", "--in-place")
    status, printed, said = run("hf", "configs/config.json", "--diff")
    assert (status, printed) == (0, "")
    assert "nothing changes in config.json" in said


def test_a_file_of_another_format_is_not_read_as_an_empty_one(run: Run) -> None:
    """Which would be nanoGPT's default model."""
    status, printed, said = run("nanogpt", "config.json")
    assert (status, printed) == (2, "")
    assert "config.json is a JSON file, which nanogpt does not read: write a Python file" in said


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.json", "  \n", "c.json is empty: write the path of a training configuration"),
        ("llama.toml", "[model]\n", "is TOML, as torchtitan had before 0.3"),
    ],
)
def test_what_no_framework_has_is_refused(run: Run, name: str, text: str, words: str) -> None:
    """With what to write instead."""
    Path(name).write_text(text)
    status, _, said = run("hf", name)
    assert status == 2
    assert words in said


def test_a_study_that_there_is_not_is_refused_though_gamma_is_given(run: Run) -> None:
    """Or a flag's value would pass for one."""
    status, _, said = run("hf", "config.json", "--diff", "true")
    assert status == 2
    assert "there is no store at" in said
