"""Comparison: environments that differ, and the sentences. Curves are in test_repeating."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from critical.comparison import differing_environments, sentences
from critical.storage.records import LeaseRecord, Process

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HERE = {
    "versions": {"python": "3.11.2", "torch": "2.13.0"},
    "platform": "Linux-6.1",
    "host": "one",
    "devices": ["H100", "H100"],
    "git": {"commit": "0123456789abcdef", "modified": False},
}


def leases(*environments: dict[str, Any]) -> list[LeaseRecord]:
    """Leases of drivers under these environments, oldest first."""
    process = Process("host", "boot", 1, "2")
    return [LeaseRecord("x", 1, process, NOW, 0.0, NOW, each) for each in environments]


def test_environments_that_are_the_same_have_no_difference() -> None:
    """Hosts and kernels are not compared, nor how often a driver was started."""
    there = HERE | {"host": "two", "platform": "Linux-6.2"}
    assert differing_environments(leases(HERE, HERE), leases(there)) == {}


@pytest.mark.parametrize("unknown", [[], leases({})])
def test_nothing_is_said_of_an_environment_that_is_not_known(unknown: list[LeaseRecord]) -> None:
    """A study without a lease, or one of an older version, names nothing."""
    assert differing_environments(unknown, leases(HERE)) == {}
    assert differing_environments(leases(HERE), unknown) == {}


def test_what_differs_is_named_with_both_values() -> None:
    """Versions, devices and the commit, of every driver that a study had."""
    older = HERE | {"versions": {"python": "3.11.2", "torch": "2.12.0", "ray": "2.60.0"}}
    there = HERE | {"devices": ["CPU, 2 cores"], "git": None}
    assert differing_environments(leases(older, HERE), leases(there)) == {
        "torch": [["2.12.0", "2.13.0"], ["2.13.0"]],
        "ray": [["2.60.0"], []],
        "devices": [["2 × H100"], ["CPU, 2 cores"]],
        "commit": [["0123456789ab"], ["none"]],
    }
    modified = HERE | {"git": {"commit": "0123456789abcdef", "modified": True}}
    assert differing_environments(leases(HERE), leases(modified)) == {
        "commit": [["0123456789ab"], ["0123456789ab, modified"]]
    }


def test_the_sentences_say_what_came_out_otherwise() -> None:
    """The count first, then some trials by their numbers, then the environment."""
    differing = {"number": 3, "original": 4, "tokens": 640, "reasoning": [0.5, 0.25]}
    unlike = {"number": 5, "original": 6, "states": ["completed", "diverged"]}
    document = {
        "of": "demo", "trials": 9, "same": 8, "differing": [differing], "ended_otherwise": [unlike],
        "left": 2, "environment": {"torch": [["2.12.0", "2.13.0"], []]},
    }  # fmt: skip
    assert list(sentences(document)) == [
        "8 of 9 trials are the same to the bit as those of 'demo'",
        "trial 3 differs from trial 4 of 'demo' from token 640 on: R 0.5000 then, 0.2500 now",
        "trial 5 ended as diverged, trial 6 of 'demo' as completed",
        "2 of its trials have not been run again to an end",
        "torch differs: 2.12.0 or 2.13.0 then, none now",
    ]
    many = [differing | {"reasoning": [None, None]}] * 7
    text = list(sentences(document | {"differing": many, "left": 0, "environment": {}}))
    assert text[1] == "trial 3 differs from trial 4 of 'demo' from token 640 on"
    assert text[6:] == ["and 3 more, which --json lists"]
