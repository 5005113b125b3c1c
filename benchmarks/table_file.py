"""A table of proxy runs as a parquet file, one row a measurement, and the runs not yet in it.

A run that ends is written at once to a file of its own in a working folder, and these are gathered
into the table now and then. Both are written under another name first and renamed, so a table and
its parts can be left at any moment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from table_designs import Ended, Spec

from critical.trials import Measurement

FOLDER = Path(__file__).parents[1] / "data"
KEY = ("width", "gamma", "learning_rate", "seed")
_ORDER = [(name, "ascending") for name in (*KEY, "tokens")]
SCHEMA = pa.schema(
    [
        ("width", pa.int32()),
        ("depth", pa.int32()),
        ("gamma", pa.float64()),
        ("learning_rate", pa.float64()),
        ("seed", pa.int32()),
        ("tokens", pa.int64()),
        ("loss", pa.float32()),
        ("loss_reasoning", pa.float32()),
        ("loss_memory", pa.float32()),
        ("loss_text", pa.float32()),
        ("loss_held_out", pa.float32()),
        ("reasoning", pa.float32()),
        ("accuracy", pa.float32()),
        ("trained_accuracy", pa.float32()),
        ("accuracy_memory", pa.float32()),
        ("accuracy_text", pa.float32()),
        ("mean_probability", pa.float32()),
        ("device_seconds", pa.float32()),
    ]
)
"""One measurement. ``accuracy`` is that of held-out compositions, ``device_seconds`` those that the
run had taken by then, of one CPU; losses are in nats per token."""
_EXTRAS = {"accuracy": "accuracy_held_out"}


def row(spec: Spec, depth: int, measurement: Measurement, device_seconds: float) -> dict[str, Any]:
    """Return a measurement as a row of the table."""
    known = {
        **asdict(spec),
        "depth": depth,
        "tokens": measurement.tokens,
        "loss": measurement.loss,
        "reasoning": measurement.reasoning,
        "device_seconds": round(device_seconds, 3),
    }
    extras = measurement.extras
    rest = {n: extras.get(_EXTRAS.get(n, n)) for n in SCHEMA.names if n not in known}
    return known | rest


class TableFile:
    """The table of a name, in data/ and in a working folder.

    Args:
        name: data/NAME.parquet.
        work: Folder of the parts.
        made_of: What all its runs share, as text; kept in the file.

    Raises:
        SystemExit: The table holds runs that were made of something else.
    """

    def __init__(self, name: str, work: Path, made_of: Mapping[str, str]) -> None:
        self.path = FOLDER / f"{name}.parquet"
        self._parts = work / name
        self._parts.mkdir(parents=True, exist_ok=True)
        self._made_of = made_of
        self._refuse_others()

    def add(self, spec: Spec, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the rows of a run that has ended."""
        name = f"{spec.width}-{spec.gamma:g}-{spec.learning_rate:g}-{spec.seed}.json"
        _replace(self._parts / name, json.dumps(list(rows)).encode())

    def gather(self) -> pa.Table:
        """Put every part into the table, and return it."""
        parts = sorted(self._parts.glob("*.json"))
        rows = [row for part in parts for row in json.loads(part.read_text(encoding="utf-8"))]
        # A part that is in the table already was left by a maker that died before removing it.
        new = set(map(_key, rows))
        stored = [row for row in self._stored().to_pylist() if _key(row) not in new]
        table = pa.Table.from_pylist(stored + rows, schema=SCHEMA)
        table = table.sort_by(_ORDER).replace_schema_metadata(dict(self._made_of))
        if parts:
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="zstd", compression_level=15)
            _replace(self.path, sink.getvalue().to_pybytes())
            for part in parts:
                part.unlink()
        return table

    def _stored(self) -> pa.Table:
        return pq.read_table(self.path) if self.path.exists() else SCHEMA.empty_table()

    def _refuse_others(self) -> None:
        if not self.path.exists():
            return
        stored = {k.decode(): v.decode() for k, v in pq.read_schema(self.path).metadata.items()}
        for name, value in self._made_of.items():
            if name in _DECIDE and stored.get(name) != value:
                raise SystemExit(
                    f"{self.path} was made with {name} {stored.get(name)} and would go on with "
                    f"{value}: delete it to make it anew"
                )


_DECIDE = ("corpus", "mixture", "tokens", "arithmetic")
"""What must be the same for all runs of a table; versions and machines are kept as of the last."""


def read(name: str) -> pa.Table:
    """Return a table of data/."""
    return pq.read_table(FOLDER / f"{name}.parquet")


def ended(table: pa.Table) -> list[Ended]:
    """Return each run of a table with its least loss; infinite where it has diverged."""
    return [
        Ended(Spec(*(one[name] for name in KEY)), cast(float, one["loss_least"]))
        for one in _least(table)
    ]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _least(table: pa.Table) -> Iterable[dict[str, Any]]:
    grouped = table.group_by(list(KEY)).aggregate([("loss", "min"), ("loss", "max")])
    for one in grouped.to_pylist():
        diverged = one["loss_max"] == float("inf") or one["loss_max"] != one["loss_max"]
        yield one | {"loss_least": float("inf") if diverged else one["loss_min"]}


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
