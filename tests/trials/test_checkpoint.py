"""A checkpoint is whole or not there, whatever happens to its writer or its file."""

from __future__ import annotations

import math
import os
import pickle
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from critical.trials import checkpoint
from critical.trials.checkpoint import CHECKPOINT_FILE, load, save

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

TENSORS = {
    "weight": torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
    "step": torch.tensor(7.0),
    "tokens": torch.arange(4),
    "half": torch.tensor([1.5, math.nan], dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]),
    "nothing": torch.empty(0, 2),
}
FACTS = {"step": 7, "losses": [0.1, 1 / 3, 5e-324, math.inf, -math.inf], "of": {"γ": None}}


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal to the bit, NaN included."""
    bits = [t.reshape(-1).view(torch.uint8) for t in (one, other)]
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*bits)


def is_whole(folder: Path) -> bool:
    """Whether a folder's checkpoint is there and holds what the tests save."""
    found = load(folder)
    return (
        found is not None
        and found.facts == FACTS
        and found.tensors.keys() == TENSORS.keys()
        and all(same(found.tensors[name], tensor) for name, tensor in TENSORS.items())
    )


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the system refuse to write more bytes than that into a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def killed(child: Callable[[], object], after: float | None = None) -> None:
    """Run a function in a child process until it is killed: by itself, or after some seconds."""
    process = os.fork()
    if process == 0:
        try:
            child()
        finally:
            os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Tensors to the bit in every type and shape, floats exactly, non-finite ones too."""
    save(tmp_path, TENSORS, FACTS)
    assert is_whole(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_not_a_number_is_loaded_as_such(tmp_path: Path) -> None:
    """A measurement may hold it."""
    save(tmp_path, {}, {"loss": math.nan})
    found = load(tmp_path)
    assert found is not None
    assert math.isnan(found.facts["loss"])


def test_a_later_one_replaces_the_one_before(tmp_path: Path) -> None:
    """There is one a folder."""
    save(tmp_path, {"old": torch.ones(3)}, {"step": 1})
    save(tmp_path, TENSORS, FACTS)
    assert is_whole(tmp_path)


def test_views_and_parameters_are_saved_by_value(tmp_path: Path) -> None:
    """A transposed view keeps its shape, a parameter loses its gradient."""
    parameter = torch.nn.Parameter(torch.randn(2, 3))
    save(tmp_path, {"view": TENSORS["weight"].T, "parameter": parameter}, {})
    found = load(tmp_path)
    assert found is not None
    assert torch.equal(found.tensors["view"], TENSORS["weight"].T)
    assert torch.equal(found.tensors["parameter"], parameter.detach())
    assert not found.tensors["parameter"].requires_grad


@pytest.mark.parametrize("folder", [".", "nowhere"])
def test_there_may_be_none(folder: str, tmp_path: Path) -> None:
    """In an empty folder, and where there is no folder."""
    assert load(tmp_path / folder) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff" * 64, pickle.dumps(TENSORS["step"]), b"\x02" + bytes(7) + b"{}"],
)
def test_a_foreign_file_is_none(content: bytes, tmp_path: Path) -> None:
    """Empty, text, noise, a pickle, and a safetensors file without a digest."""
    (tmp_path / CHECKPOINT_FILE).write_bytes(content)
    assert load(tmp_path) is None


def test_a_folder_of_that_name_is_none(tmp_path: Path) -> None:
    """And saving over it fails as any write may."""
    (tmp_path / CHECKPOINT_FILE).mkdir()
    assert load(tmp_path) is None
    with pytest.raises(OSError, match="directory"):
        save(tmp_path, TENSORS, FACTS)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_a_wrong_digest_is_none(tmp_path: Path) -> None:
    """A file that is whole but for its digest is not trusted."""
    save(tmp_path, TENSORS, FACTS)
    data = (tmp_path / CHECKPOINT_FILE).read_bytes()
    (tmp_path / CHECKPOINT_FILE).write_bytes(data.replace(b"5e-324", b"6e-324"))
    assert load(tmp_path) is None
    (tmp_path / CHECKPOINT_FILE).write_bytes(data.replace(b'"half"', b'"flah"'))
    assert load(tmp_path) is None
    (tmp_path / CHECKPOINT_FILE).write_bytes(data)
    assert is_whole(tmp_path)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_torn_file_is_none_or_the_same(data: st.DataObject, tmp_path: Path) -> None:
    """Cut anywhere, with bytes changed anywhere, or with more after its end."""
    save(tmp_path, TENSORS, FACTS)
    path = tmp_path / CHECKPOINT_FILE
    content = bytearray(path.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, max_size=3), "changed"):
        content[place] ^= data.draw(st.integers(1, 255), "by")
    end = data.draw(st.none() | places, "cut")
    path.write_bytes(bytes(content[:end]) + data.draw(st.binary(max_size=3), "more"))
    assert load(tmp_path) is None or is_whole(tmp_path)


@pytest.mark.parametrize("size", [0, 100, 600])
def test_a_full_disk_leaves_the_one_before(size: int, tmp_path: Path) -> None:
    """An OSError says so, and nothing half-written stays."""
    save(tmp_path, TENSORS, FACTS)
    with files_of_at_most(size), pytest.raises(OSError, match="File too large"):
        save(tmp_path, {"weight": torch.zeros(1_000)}, {})
    assert is_whole(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It is not made: the trial may be over and its folder removed."""
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "nowhere", TENSORS, FACTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["os.fsync", "Path.replace", "_flush_names"])
def test_a_crash_at_any_point_leaves_one(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before until the rename, the new one after it; what is left over is removed."""
    save(tmp_path, {"old": torch.ones(3)}, {"step": 1})

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(f"critical.trials.checkpoint.{place}", die)
        killed(lambda: save(tmp_path, TENSORS, FACTS))
    if place == "_flush_names":
        assert is_whole(tmp_path)
    else:
        assert len(list(tmp_path.iterdir())) == 2
        found = load(tmp_path)
        assert found is not None
        assert found.facts == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_a_writer_killed_at_any_moment_leaves_one_whole(tmp_path: Path) -> None:
    """A child that saves as fast as it can; each checkpoint's tensors tell its facts."""
    moment = random.Random(0)
    step = 0
    save(tmp_path, {"step": torch.tensor(0)}, {"step": 0})

    def save_on() -> None:
        for number in range(step + 1, 10**9):
            tensors = {f"part {n}": torch.full((500,), number) for n in range(20)}
            save(tmp_path, tensors | {"step": torch.tensor(number)}, {"step": number})

    for _ in range(20):
        killed(save_on, after=moment.uniform(0.01, 0.1))
        found = load(tmp_path)
        assert found is not None
        assert all((tensor == found.facts["step"]).all() for tensor in found.tensors.values())
        assert found.facts["step"] >= step
        step = found.facts["step"]
        assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]
    assert step > 20


def test_the_digest_tells_names_types_and_shapes() -> None:
    """Equal bytes under another name, type or shape are another checkpoint."""
    zeros = torch.zeros(4)
    variants = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.reshape(2, 2)},
        {"a": zeros.view(torch.int32)},
        {"a": zeros[:2], "b": zeros[2:]},
    ]
    assert len({checkpoint._digest(tensors, "{}") for tensors in variants}) == len(variants)
