"""Options: which source wins, and what the refusals say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from critical.errors import BudgetError, OptionError
from critical.options import (
    RepeatOptions,
    SearchOptions,
    load_request,
)
from critical.store_url import DEFAULT_STORAGE, resolve_storage

BUDGET = {"budget": "20trials"}


def load_options(
    given: Mapping[str, Any], environment: Mapping[str, str], config: Path | None
) -> SearchOptions:
    """Load what asks for a search."""
    request = load_request(given, environment, config)
    assert isinstance(request, SearchOptions)
    return request


def toml(folder: Path, text: str) -> Path:
    """Write a critical.toml."""
    path = folder / "critical.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_budget_alone_is_enough() -> None:
    """Everything else has a default."""
    options = load_options(BUDGET, {}, None)
    assert options.interval == (0.3, 1.2)
    assert options.storage == DEFAULT_STORAGE
    assert options.target is None
    assert options.sampler == "gp"


def test_the_command_line_wins_over_environment_and_file(tmp_path: Path) -> None:
    """Flags, then environment, then file; None on the command line was not given."""
    config = toml(tmp_path, 'budget = "9trials"\nstorage = "sqlite:///file.db"\nseed = 4\n')
    environment = {"CRITICAL_STORAGE": "sqlite:///environment.db"}
    given = load_options({**BUDGET, "storage": "sqlite:///flag.db"}, environment, config)
    assert (given.budget, given.storage, given.seed) == ("20trials", "sqlite:///flag.db", 4)
    assert load_options({"storage": None}, environment, config).storage.endswith("environment.db")
    assert load_options({}, {}, config).storage.endswith("file.db")


def test_a_file_may_use_dashes_lists_and_single_numbers(tmp_path: Path) -> None:
    """Options are named as on the command line or as in Python, in TOML's types or as text."""
    config = toml(
        tmp_path,
        'budget = "9trials"\nweight-decay = 0.2\nslope_sd = 0.05\nwidths = [128, 64]\n'
        'lr = 2e-3\ninterval = "0.4,1"\n',
    )
    options = load_options({}, {}, config)
    assert options.weight_decay == 0.2
    assert options.slope_sd == 0.05
    assert options.widths == (64, 128)
    assert options.lr == (2e-3,)
    assert options.interval == (0.4, 1)


def test_ladders_are_sorted_and_freed_of_repetition() -> None:
    """Order and repetition mean nothing."""
    options = load_options({**BUDGET, "widths": "64,32,64", "lr": "4e-3,1e-3"}, {}, None)
    assert options.widths == (32, 64)
    assert options.lr == (1e-3, 4e-3)


def test_options_are_frozen() -> None:
    """Nobody deeper changes what the user asked for."""
    with pytest.raises(ValueError, match="frozen"):
        load_options(BUDGET, {}, None).seed = 3


def test_no_budget_says_which_to_write() -> None:
    """A search without a budget is refused."""
    with pytest.raises(OptionError, match=r"no budget was given: write --budget 64gpu-h"):
        load_options({}, {}, None)


def test_the_budgets_own_sentence_is_kept() -> None:
    """The options do not wrap what parse_budget says."""
    with pytest.raises(BudgetError, match=r"^budget '64' has no unit"):
        load_options({"budget": "64"}, {}, None)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("interval", "0.3", r"--interval '0.3' is not allowed: write two γ at least 0.1 apart"),
        ("interval", "0.3,0.35", r"write two γ at least 0.1 apart"),
        ("interval", "1.2,0.3", r"write two γ at least 0.1 apart"),
        ("interval", "0.3,0.6,1.2", r"write two γ at least 0.1 apart"),
        ("interval", "0.3,inf", r"write two γ at least 0.1 apart"),
        ("interval", "nan,1", r"write two γ at least 0.1 apart"),
        ("interval", "low,high", r"'low,high' is not a list of numbers"),
        ("widths", "30", r"--widths \(30,\) is not allowed: write multiples of 8|multiples of 8"),
        ("widths", "32.5", r"--widths 32.5 is not allowed: write a whole number"),
        ("widths", "", r"--widths '' is not allowed: '' is not a list of numbers"),
        ("lr", "0", r"write one learning rate, or a ladder"),
        ("lr", "1e-3,nan", r"write one learning rate, or a ladder"),
        ("seed", -1, r"--seed -1 is not allowed: write a number of at least 0$"),
        ("seed", 2**31, r"is not allowed: write a number below 2147483648$"),
        ("batch", 8, r"--batch 8 is not allowed"),
        ("tokens", 0, r"--tokens 0 is not allowed"),
        ("workers", -1, r"--workers -1 is not allowed"),
        (
            "weight_decay",
            float("nan"),
            r"--weight-decay nan is not allowed: write a finite number$",
        ),
        ("slope_sd", 0.0, r"--slope-sd 0.0 is not allowed: write a number above 0"),
        ("precision", 1.0, r"--precision 1.0 is not allowed: write a number below 1"),
        ("sampler", "cma", r"--sampler 'cma' is not allowed: write gp or random$"),
        ("convention", "fan_out", r"--convention 'fan_out' is not allowed"),
        ("study", "a b", r"--study 'a b' is not allowed: use letters, digits"),
        ("study", "../x", r"--study '\.\./x' is not allowed"),
        ("settings", "target,loose", r"--settings 'target,loose' is not allowed: 'loose' is not "),
        ("settings", "target,target", r"write each of the settings once, as in target,relaxed"),
        ("settings", "", r"--settings '' is not allowed: write each of the settings once"),
        ("settings", "target,", r"--settings 'target,' is not allowed: write each of the settings"),
        ("settings", [], r"write each of the settings once"),
        ("settings", "carried", r"carried is made from a target: add --target config.json"),
        ("proxy", "llama", r"--proxy 'llama' is not allowed: write built-in or hf$"),
        ("proxy", "HF", r"--proxy 'HF' is not allowed: write built-in or hf$"),
        ("token_bytes", 3, r"--token-bytes 3 is not allowed: write 2 or 4$"),
        ("vocabulary", 1, r"--vocabulary 1 is not allowed: write a number of at least 2$"),
        ("compile", "maybe", r"--compile 'maybe' is not allowed: write auto, on or off$"),
        ("text_field", "", r"--text-field '' is not allowed: write a text that is not empty$"),
        (
            "proxy",
            "hf",
            r"--proxy 'hf' is not allowed: it takes the target's architecture: add --t",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_option(option: str, value: object, message: str) -> None:
    """The message names the option as it is typed, the value, and what is allowed."""
    with pytest.raises(OptionError, match=message):
        load_options({**BUDGET, option: value}, {}, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('budget = "9trials"\ncolour = "red"', r"'colour' is no option of search: see critical"),
        ("budget = 5", r"--budget 5 is not allowed: write a text, in quotes$"),
        ("budget =", r"is not TOML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Unknown options, wrong types and broken TOML are told apart."""
    with pytest.raises(OptionError, match=message):
        load_options({}, {}, toml(tmp_path, text))


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(OptionError, match=r"gone.toml cannot be read: No such file"):
        load_options({}, {}, tmp_path / "gone.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match=r"binary.toml is not TOML"):
        load_options({}, {}, binary)


def test_the_store_of_other_commands_is_found_likewise() -> None:
    """As given, else the environment's, else the default."""
    environment = {"CRITICAL_STORAGE": "sqlite:///b.db"}
    assert resolve_storage("sqlite:///a.db", environment) == "sqlite:///a.db"
    assert resolve_storage(None, environment) == "sqlite:///b.db"
    assert resolve_storage(None, {}) == DEFAULT_STORAGE


def test_unknown_names_are_refused_from_python_too() -> None:
    """A misspelt option never passes unnoticed."""
    with pytest.raises(OptionError, match=r"'with' is no option"):
        load_options({**BUDGET, "with": 1}, {}, None)
    assert SearchOptions(budget="10cpu-min").seed == 0


def test_a_repeat_takes_only_what_changes_no_trial(tmp_path: Path) -> None:
    """Where and how its trials run may be given, in a file too; a budget need not be."""
    config = toml(tmp_path, 'repeat = "demo"\nwork-dir = "elsewhere"\nretries = 0\n')
    request = load_request({"workers": 1, "budget": None}, {"CRITICAL_STORAGE": "x"}, config)
    assert isinstance(request, RepeatOptions)
    assert request.repeat == "demo"
    assert request.model_dump(include=request.model_fields_set - {"repeat"}) == {
        "workers": 1, "work_dir": Path("elsewhere"), "retries": 0, "storage": "x",
    }  # fmt: skip


def test_a_pack_is_a_number_or_auto(tmp_path: Path) -> None:
    """Of the command line's text or TOML's types; anything else says what to write."""
    assert load_options(BUDGET, {}, None).pack == "auto"
    assert load_options({**BUDGET, "pack": "4"}, {}, None).pack == 4
    assert load_options(BUDGET, {}, toml(tmp_path, "pack = 2\n")).pack == 2
    for wrong in ("0", "-1", "1.5", "many", 0, 2.0, True):
        with pytest.raises(OptionError, match=r"--pack .* is not allowed: write a number of tr"):
            load_options({**BUDGET, "pack": wrong}, {}, None)


@pytest.mark.parametrize(
    ("given", "text", "message"),
    [
        (
            {"lr": "1e-3"},
            "",
            r"^--lr cannot be given with --repeat: a repeat has the options of 'd",
        ),
        ({"budget": "9trials"}, "", r"^--budget cannot be given with --repeat.*, so leave it out$"),
        ({"slope_sd": 0.1}, "", r"^--slope-sd cannot be given with --repeat"),
        ({}, "lr = 1e-3", r"^'lr' in .*critical.toml cannot be given with --repeat"),
        ({}, "colour = 1", r"'colour' is no option of search"),
        ({"workers": -1}, "", r"--workers -1 is not allowed"),
        ({"study": "a b"}, "", r"--study 'a b' is not allowed"),
        ({"repeat": 5}, "", r"--repeat 5 is not allowed"),
    ],
)
def test_a_repeat_refuses_what_the_stored_search_decides(
    tmp_path: Path, given: dict[str, object], text: str, message: str
) -> None:
    """The sentence names the option and where it stands."""
    with pytest.raises(OptionError, match=message):
        load_request({"repeat": "demo", **given}, {}, toml(tmp_path, text))


def test_settings_are_searched_side_by_side_the_targets_first(tmp_path: Path) -> None:
    """By default alone; whatever the order in which they are named, in a list or as text."""
    assert load_options(BUDGET, {}, None).settings == ("target",)
    for given in ("relaxed,target", " target, relaxed", ["relaxed", "target"]):
        assert load_options({**BUDGET, "settings": given}, {}, None).settings == (
            "target",
            "relaxed",
        )
    config = toml(tmp_path, 'budget = "9trials"\ntarget = "c.json"\nsettings = ["carried"]')
    assert load_options({}, {}, config).settings == ("carried",)


def test_a_trial_of_ones_own_names_its_settings_as_it_likes() -> None:
    """In lower case, as they stand in the names of studies."""
    own = {**BUDGET, "trainable": "own.py:train"}
    assert load_options({**own, "settings": "muon,adam-w"}, {}, None).settings == ("muon", "adam-w")
    with pytest.raises(OptionError, match=r"--settings 'Muon' is not allowed: use lower-case"):
        load_options({**own, "settings": "Muon"}, {}, None)


def test_an_hf_proxy_needs_a_target_and_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named with what to type; a trial of one's own has a model already."""
    given = {**BUDGET, "proxy": "hf", "target": "config.json"}
    assert load_options(BUDGET, {}, None).proxy == "built-in"
    assert load_options(given, {}, None).proxy == "hf"
    with pytest.raises(OptionError, match=r"a --trainable has a model of its own"):
        load_options({**given, "trainable": "own.py:train"}, {}, None)
    monkeypatch.setattr("critical.settings.find_spec", lambda _: None)
    with pytest.raises(OptionError, match=r"it needs transformers: pip install critical\[hf\]"):
        load_options(given, {}, None)
