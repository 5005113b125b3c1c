"""What the user asked for, as one frozen object: flags, environment, then ``critical.toml``."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from critical.budget import parse_budget
from critical.errors import OptionError
from critical.option_sentences import flag, sentence
from critical.settings import check_hf_proxy, checked_settings
from critical.store_url import DEFAULT_STORAGE

DEFAULT_INTERVAL = (0.3, 1.2)
_INTERVAL = "write two γ at least 0.1 apart between 0 and 3, as in 0.3,1.2"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RunningOptions(BaseModel):
    """Under which name, where and how trials are run, checked: none of it changes a trial."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    study: str | None = None
    storage: str = Field(default=DEFAULT_STORAGE, repr=False)  # may hold a password
    workers: int | None = Field(default=None, ge=0)
    ray_address: str | None = None
    work_dir: Path = Path("critical-work")
    retries: int = Field(default=2, ge=0)
    backoff: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    patience: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    max_failures: int = Field(default=10, ge=1)
    pack: Literal["auto"] | int = "auto"

    @field_validator("study")
    @classmethod
    def _study(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError(
                "use letters, digits, '.', '_' and '-', beginning with a letter or digit"
            )
        return value

    @field_validator("pack", mode="before")
    @classmethod
    def _pack(cls, value: object) -> object:
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        counts = isinstance(number, int) and not isinstance(number, bool) and number >= 1
        if not counts and number != "auto":
            raise ValueError("write a number of trials from 1, or auto")
        return number


class RepeatOptions(RunningOptions):
    """The options of ``critical search --repeat STUDY``; those not set are the stored search's."""

    repeat: str


class SearchOptions(RunningOptions):
    """The options of ``critical search``, checked. Immutable.

    Text forms are those of the command line, so that ``critical.toml`` and Python may use them.
    """

    budget: str
    target: Path | None = None
    trainable: str | None = None
    widths: tuple[int, ...] | None = None
    rule: str = "balance"
    interval: tuple[float, float] = DEFAULT_INTERVAL
    lr: tuple[float, ...] | None = None
    weight_decay: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    tokens: int | None = Field(default=None, ge=1)
    batch: int = Field(default=1024, ge=64)
    seed: int = Field(default=0, ge=0, lt=2**31)
    corpus: Path | None = None
    tokenizer: Path | None = None
    text_field: str | None = Field(default=None, min_length=1)
    token_bytes: Literal[2, 4] | None = None
    vocabulary: int | None = Field(default=None, ge=2)
    mixture: str | None = None
    convention: Literal["fan_in", "width"] = "fan_in"
    slope_sd: float = Field(default=0.03, gt=0, allow_inf_nan=False)
    precision: float | None = Field(default=None, gt=0, lt=1)
    sampler: Literal["gp", "random"] = "gp"
    compile: Literal["auto", "on", "off"] = "auto"
    settings: tuple[str, ...] = ("target",)
    proxy: Literal["built-in", "hf"] = "built-in"

    @field_validator("widths", "lr", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, int | float):  # as critical.toml may write a single one
            return (value,)
        return _numbers(value) if isinstance(value, str) else value

    @field_validator("interval", mode="before")
    @classmethod
    def _pair(cls, value: object) -> object:
        numbers = _numbers(value) if isinstance(value, str) else value
        if isinstance(numbers, tuple | list) and len(numbers) != 2:
            raise ValueError(_INTERVAL)
        return numbers

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        parse_budget(value)
        return value

    @field_validator("widths")
    @classmethod
    def _widths(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if not value or any(not 8 <= width <= 65536 or width % 8 for width in value):
            raise ValueError("write multiples of 8 from 8 to 65536, as in 64,128")
        return tuple(sorted(set(value)))

    @field_validator("interval")
    @classmethod
    def _interval(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not (math.isfinite(low + high) and low >= 0 and low + 0.1 <= high <= 3):
            raise ValueError(_INTERVAL)
        return value

    @field_validator("lr")
    @classmethod
    def _lr(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is None:
            return None
        if not value or any(not 0 < rate < 10 for rate in value):
            raise ValueError("write one learning rate, or a ladder of them, as in 1e-3,2e-3,4e-3")
        return tuple(sorted(set(value)))

    @field_validator("settings", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return tuple(value.split(",")) if isinstance(value, str) else value

    @field_validator("settings")
    @classmethod
    def _settings(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        own, with_target = _given(info, "trainable"), _given(info, "target")
        return checked_settings(value, own_trainable=own, with_target=with_target)

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, value: str, info: ValidationInfo) -> str:
        if value == "hf":
            own, with_target = _given(info, "trainable"), _given(info, "target")
            check_hf_proxy(own_trainable=own, with_target=with_target)
        return value


def load_request(
    given: Mapping[str, Any], environment: Mapping[str, str], config: Path | None
) -> SearchOptions | RepeatOptions:
    """Merge the command line over the environment over a TOML file, and check the whole.

    Args:
        given: Options of the command line; those that are None were not given.
        environment: ``CRITICAL_STORAGE`` is read.
        config: A ``critical.toml``, or None.

    Returns:
        The options of a search, or of a repeat where ``repeat`` is among them.

    Raises:
        OptionError: The file cannot be read or names an unknown option, a value is not allowed, or
            a repeat is given what the stored search decides.
        BudgetError: The budget cannot be read.
    """
    merged = _merged(given, environment, config)
    if "repeat" not in merged:
        return check_options(merged)
    for name in merged:
        if name in SearchOptions.model_fields and name not in RepeatOptions.model_fields:
            where = flag(name) if given.get(name) is not None else f"{name!r} in {config}"
            raise OptionError(
                f"{where} cannot be given with --repeat: a repeat has the options of "
                f"{merged['repeat']!r}, so leave it out"
            )
    try:
        return RepeatOptions(**merged)
    except ValidationError as error:
        raise OptionError(sentence(error)) from error


def check_options(merged: Mapping[str, Any]) -> SearchOptions:
    """Check the options of a search, by name.

    Raises:
        OptionError: There is no budget, a name is not known, or a value is not allowed.
        BudgetError: The budget cannot be read.
    """
    if "budget" not in merged:
        raise OptionError("no budget was given: write --budget 64gpu-h, 10cpu-min or 200trials")
    try:
        return SearchOptions(**merged)
    except ValidationError as error:
        raise OptionError(sentence(error)) from error


def _merged(
    given: Mapping[str, Any], environment: Mapping[str, str], config: Path | None
) -> dict[str, Any]:
    merged = dict(_read_toml(config)) if config is not None else {}
    if environment.get("CRITICAL_STORAGE"):
        merged["storage"] = environment["CRITICAL_STORAGE"]
    merged.update({name: value for name, value in given.items() if value is not None})
    return merged


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"configuration {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"configuration {path} is not TOML: {error}") from error
    return {name.replace("-", "_"): value for name, value in document.items()}


def _given(info: ValidationInfo, name: str) -> bool:
    """Whether an option was given that is declared, and so checked, before this one."""
    return info.data.get(name) is not None


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a list of numbers") from None
