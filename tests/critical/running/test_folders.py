"""Where a study keeps its files: no name and no link leads out of there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.errors import OptionError
from critical.running.folders import StudyFolder, folder_name
from critical.running.search import Search
from critical.trials.run import STOP_FILE

NAMES = st.one_of(
    st.text(),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True),
    st.sampled_from(["..", "../../etc/x", "a/b", "a\0b", "~", "CON", "\x1b[2J", "a" * 10_000, ""]),
)


@given(NAMES)
def test_any_name_becomes_one_component_of_a_path(name: str) -> None:
    """Of plain letters and of a length that every file system takes, and never hidden."""
    folder = folder_name(name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}", folder)
    assert StudyFolder(Path("/work"), name).path == Path("/work/studies") / folder


@given(NAMES, NAMES)
def test_two_names_never_share_a_folder(one: str, other: str) -> None:
    """Not even on a file system that takes two names for one that differ by case."""
    alike = {one, one.upper(), one.lower(), one.swapcase(), other, f"{one} ", f"{one}/"}
    alike |= {folder_name(name) for name in alike}
    alike |= {folder_name(name).lower() for name in alike}
    folders = {folder_name(name).casefold() for name in alike}
    assert len(folders) == len(alike)


@pytest.mark.parametrize("name", ["default", "llama-d512-L8", "gpt_neox-d64-L2", "a.b_c-1"])
def test_an_ordinary_name_is_its_own_folder(name: str) -> None:
    """So that a user finds it."""
    assert folder_name(name) == name


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of the user's, with something in it that looks like ours."""
    folder = tmp_path / "elsewhere"
    for name in ("trial-0", "ray"):
        (folder / name).mkdir(parents=True)
        (folder / name / "precious").touch()
    (folder / STOP_FILE).touch()
    return folder


def _open_and_close(folder: StudyFolder) -> None:
    with folder.opened():
        pass


def _kept(elsewhere: Path) -> bool:
    files = sorted(str(path.relative_to(elsewhere)) for path in elsewhere.rglob("*"))
    return files == ["ray", "ray/precious", STOP_FILE, "trial-0", "trial-0/precious"]


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: folder.remove(0),
        lambda folder: folder.tidy([]),
        _open_and_close,
        lambda folder: (folder.tidy([0]), folder.begin(0)),
    ],
)
def test_a_link_is_removed_and_not_what_it_points_to(
    tmp_path: Path, elsewhere: Path, act: Callable[[StudyFolder], object]
) -> None:
    """Whoever put it there: a trial's folder and Ray's."""
    folder = StudyFolder(tmp_path / "work", "s")
    folder.path.mkdir(parents=True)
    for link in (folder.trial(0), folder.ray):
        link.symlink_to(elsewhere)
    act(folder)
    assert _kept(elsewhere)
    assert not folder.trial(0).is_symlink() or not folder.ray.is_symlink()


@pytest.mark.parametrize("where", ["studies", "studies/s"])
def test_a_study_whose_folder_is_a_link_is_refused(
    tmp_path: Path, elsewhere: Path, where: str
) -> None:
    """What was taken for leftovers there would be removed."""
    link = tmp_path / "work" / where
    link.parent.mkdir(parents=True)
    (elsewhere / "s").symlink_to(elsewhere)
    link.symlink_to(elsewhere)
    with pytest.raises(OptionError, match=rf"{link} is a symbolic link.*--work-dir"):
        _open_and_close(StudyFolder(tmp_path / "work", "s"))
    (elsewhere / "s").unlink()
    assert _kept(elsewhere)


def test_the_work_directory_itself_may_be_a_link(
    tmp_path: Path, elsewhere: Path, begin: Callable[..., Search]
) -> None:
    """To a larger disk: the user named it, and only our own folder in it is touched."""
    (tmp_path / "work").symlink_to(elsewhere)
    _open_and_close(begin().folder)
    assert _kept(elsewhere)
