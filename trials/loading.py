"""A user's own trial, named by ``FILE.py:NAME`` or ``module:NAME``.

This is the only foreign code that a search runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from critical.trials.errors import TrainableError
from critical.trials.run import Measurement, ProxyRun, Trainable

_EXAMPLE = "write --trainable FILE.py:NAME or --trainable module:NAME"


@dataclass(frozen=True, slots=True)
class NamedTrainable:
    """A trainable by its name, loaded where it is first called. Picklable: it travels to workers.

    Attributes:
        place: An absolute path of a Python file, or a module's dotted name.
        name: The callable in it.
        folder: Where a module was found, so that a worker finds it from there.
    """

    place: str
    name: str
    folder: str

    def __call__(self, run: ProxyRun, /) -> Iterator[Measurement]:
        """Load the user's function and start it."""
        return self.load()(run)

    def load(self) -> Trainable:
        """Import the place and return the callable.

        Raises:
            TrainableError: The file, module or name does not exist, importing it failed, or what
                the name stands for cannot be called.
        """
        module = _from_file(self.place) if self.place.endswith(".py") else self._from_module()
        found = getattr(module, self.name, None)
        if found is None:
            raise TrainableError(f"trainable {self.place} has no {self.name!r}: {_EXAMPLE}")
        if not callable(found):
            raise TrainableError(
                f"{self.name!r} in {self.place} is a {type(found).__name__}: "
                "name a function that takes a ProxyRun and yields Measurements"
            )
        return cast(Trainable, found)

    def _from_module(self) -> object:
        if self.folder not in sys.path:
            sys.path.insert(0, self.folder)
        try:
            return importlib.import_module(self.place)
        except ModuleNotFoundError as error:
            if error.name and f"{self.place}.".startswith(f"{error.name}."):
                raise TrainableError(f"no module {self.place!r} to import: {_EXAMPLE}") from error
            raise TrainableError(_import_failed(self.place, error)) from error
        except (Exception, SystemExit) as error:
            raise TrainableError(_import_failed(self.place, error)) from error


def parse_trainable(text: str) -> NamedTrainable:
    """Read ``FILE.py:NAME`` or ``module:NAME`` and load it once, so that mistakes show at once.

    Raises:
        TrainableError: See ``NamedTrainable.load``, or there is no colon.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name:
        raise TrainableError(f"trainable {text!r} names no function: {_EXAMPLE}")
    if place.endswith(".py"):
        path = Path(place).resolve()
        if not path.is_file():
            raise TrainableError(f"trainable file {place} does not exist: {_EXAMPLE}")
        place = str(path)
    trainable = NamedTrainable(place, name, str(Path.cwd()))
    trainable.load()
    return trainable if place.endswith(".py") else replace(trainable, folder=_found_in(place))


def _from_file(place: str) -> object:
    name = f"critical_trainable_{zlib.crc32(place.encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look a module up by its name
    folder = str(Path(place).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as Python does for a file that it runs
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise TrainableError(_import_failed(place, error)) from error
    return module


def _found_in(module: str) -> str:
    """Return the folder on the path of a module that has been imported, or of its package."""
    outermost = sys.modules[module.partition(".")[0]]
    places = list(getattr(outermost, "__path__", ())) or [getattr(outermost, "__file__", None)]
    return str(Path(places[0]).absolute().parent if places[0] else Path.cwd())


def _import_failed(place: str, error: BaseException) -> str:
    message = " ".join(str(error).split())
    return f"importing {place} failed with {type(error).__name__}: {message}"
