"""Real kills under Ray: of the driver, of a worker, of Ray itself, at random moments.

    make soak        50 kills; the ordinary tests make 3, one of each

After each kill that ends the driver the same command is given again, at once. At the end every
trial of the budget has completed once, and the ledger is what the workers say that they ran.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from critical.storage.store import Store

KILLS = int(os.environ.get("CRITICAL_SOAK_KILLS", "3"))
SEED = int(os.environ.get("CRITICAL_SOAK_SEED", "0"))
TRIALS = 20 + 4 * KILLS
VICTIMS = ("driver", "worker", "raylet", "driver", "worker")
LONGEST_LIFE = 14.0
"""Seconds after which something is killed, at the latest."""
ENDS_WITHIN = 60.0
"""Seconds until a driver notices that Ray has died."""
STEP_SECONDS = 0.12
TRIAL = """
import json, os, time
from pathlib import Path
from runpy import run_path

whole = run_path({path!r})["train"]

def train(run):
    '''Go on from the last measurement but one; log how long each attempt ran.'''
    saved, began = run.checkpoint_dir / "measured", time.perf_counter()
    done = int(saved.read_text()) if saved.exists() else 0
    log = Path({log!r}, f"{{run.gamma!r}}_{{run.scale.width}}_{{run.seed}}_{{time.time_ns()}}")
    for number, one in enumerate(whole(run)):
        if number < done or not number % 2:
            continue
        time.sleep({step})
        log.write_text(repr(time.perf_counter() - began))
        yield one
        fresh = saved.with_suffix(".new")
        fresh.write_text(str(number))
        fresh.replace(saved)
"""

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240 + 60 * KILLS)]


@dataclass
class Driver:
    """``critical search`` in a process of its own, started again whenever it has died."""

    folder: Path
    arguments: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    killed: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def run(self) -> subprocess.Popen[bytes]:
        """Return the running driver, a new one where the last has ended."""
        if self.process is None or self.process.poll() is not None:
            self.starts += 1
            with (self.folder / f"err{self.starts}").open("wb") as err:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "critical", "search", *self.arguments],
                    cwd=self.folder,
                    env=self.environment,
                    stdout=subprocess.DEVNULL,
                    stderr=err,
                    start_new_session=True,
                )
        return self.process

    def kill(self, victim: str) -> bool:
        """Kill one process with SIGKILL; False where there is none of that kind now."""
        driver = self.process
        assert driver is not None
        found = [driver.pid] if victim == "driver" else list(_named(driver.pid, victim))
        if not found:
            return False
        os.kill(found[0], signal.SIGKILL)
        self.killed[victim] += 1
        if victim != "worker":
            driver.wait(ENDS_WITHIN)
        return True

    def errors(self) -> str:
        """What all drivers wrote on standard error."""
        return "\n".join(
            (self.folder / f"err{n}").read_text(errors="replace") for n in range(1, self.starts + 1)
        )


def _named(root: int, name: str) -> Iterator[int]:
    """Descendants of a process that are Ray's of a name; workers show what they run."""
    for pid in _descendants(root):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if (
            name == "worker" and words.startswith((b"ray::RayTrial", b"ray::ResourceTrainable"))
        ) or (name == "raylet" and b"raylet/raylet" in words):
            yield pid


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children[parent].append(int(stat.parent.name))
    found, queue = [], [root]
    while queue:
        own = children[queue.pop()]
        found += own
        queue += own
    return found


@pytest.fixture
def driver(tmp_path: Path, analytic: str) -> Iterator[Driver]:
    """A search through two workers, each trial of three seconds."""
    log = tmp_path / "log"
    log.mkdir()
    source = TRIAL.format(path=analytic.rpartition(":")[0], log=str(log), step=STEP_SECONDS)
    (tmp_path / "slow.py").write_text(source)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CRITICAL_", "RAY_"))}
    found = Driver(
        tmp_path,
        ["--budget", f"{TRIALS}trials", "--trainable", "slow.py:train", "--widths", "32,64",
         "--workers", "2", "--sampler", "random", "--retries", "9", "--backoff", "0.1"],
        environment,
    )  # fmt: skip
    yield found
    if found.process is not None and found.process.poll() is None:
        os.killpg(found.process.pid, signal.SIGKILL)
        found.process.wait()


def test_nothing_is_lost_run_twice_or_charged_twice(
    driver: Driver, check_nothing_lost: Callable[..., None]
) -> None:
    """Whatever dies, the same command goes on until the budget is spent."""
    chance = random.Random(SEED)
    for kill in range(KILLS):
        driver.run()
        time.sleep(chance.uniform(0.5, LONGEST_LIFE))
        _kill_one(driver, VICTIMS[kill % len(VICTIMS)])
    assert driver.run().wait(300) == 0, driver.errors()
    assert "Traceback" not in driver.errors()
    print(json.dumps({"kills": driver.killed, "starts": driver.starts}))
    check_nothing_lost(f"sqlite:///{driver.folder}/critical.db", "default", completed=TRIALS)
    _check_against_the_workers(driver.folder)


def _kill_one(driver: Driver, victim: str) -> None:
    """Kill one of a kind, waiting for Ray to have started it."""
    for _ in range(300):
        running = driver.process
        assert running is not None
        # Only a kill may end it early: what ends by itself has a fault, or too few trials.
        assert running.poll() is None, driver.errors()
        if driver.kill(victim):
            return
        time.sleep(0.1)
    raise AssertionError(f"there was never a {victim} to kill:\n{driver.errors()}")


def _check_against_the_workers(folder: Path) -> None:
    """Each attempt's charge is what its worker ran: from its first to its last measurement."""
    ran: dict[str, list[float]] = defaultdict(list)
    for log in sorted((folder / "log").iterdir(), key=lambda path: path.name.rpartition("_")[2]):
        key, _, _ = log.name.rpartition("_")
        ran[key].append(float(log.read_text()))
    with Store.open(f"sqlite:///{folder}/critical.db") as store:
        study = store.study("default")
        charges = store.charges(study.id)
        for trial in store.trials(study.id):
            seconds = ran[f"{trial.gamma!r}_{trial.width}_{trial.seed}"]
            own = [c for c in charges if c.trial_number == trial.number]
            assert len(seconds) <= len(own)
            charged = sum(c.charged_seconds or 0.0 for c in own)
            # A worker killed with its driver may have run on for a moment; one that died alone
            # is charged until the driver has heard of it.
            assert charged >= sum(seconds) - 2.0 * len(seconds)
            assert charged <= sum(seconds) + 10.0 * (len(own) - 1) + 2.0
    assert not (folder / "critical-work").exists()
