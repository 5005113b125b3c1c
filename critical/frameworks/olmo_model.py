"""The matrices of an old OLMo model, and the std that its ``init_fn`` draws each with.

Source: ai2-olmo 0.6.0, olmo/model.py and olmo/initialization.py. With a cutoff factor c, draws are
cut at ±c std; mitchell and full_megatron cut at ±3 where none is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from critical.frameworks.truncation import kept
from critical.targets.config_keys import Keys
from critical.targets.layout import Kind, Matrix

LARGEST = 1 << 40
"""Of a dimension; what is above is no model."""
_MOST_LAYERS = 1000
INIT_FNS = ("normal", "mitchell", "full_megatron")
"""Those that ai2-olmo 0.6 has; kaiming_normal and fan_in are names without an implementation."""


@dataclass(frozen=True, slots=True)
class Model:
    """What ``model`` says of sizes and initialization; defaults are ai2-olmo's ModelConfig's.

    Attributes:
        keys: Of the section.
        width: d_model.
        depth: Blocks.
        init_fn: How it is drawn.
        init_std: As given.
        cut: Where draws are cut, in std; None for a whole normal.
    """

    keys: Keys
    width: int
    depth: int
    init_fn: str
    init_std: float
    cut: float | None

    @property
    def tied(self) -> bool:
        """Return whether the head is the embedding."""
        return self.keys.boolean("weight_tying", True)

    def matrices(self) -> Iterator[Matrix]:
        """Yield the matrices as the model has them, each block's by its number."""
        keys, width = self.keys, self.width
        words = keys.integer(("vocab_size",), 50257, high=LARGEST)
        padded = "embedding_size" in keys.values and keys.values["embedding_size"] is None
        rows = words if padded else keys.integer(("embedding_size",), 50304, high=LARGEST)
        wte = self._matrix("wte", "embedding", rows, width, self._embedding())
        yield wte
        if not (keys.boolean("alibi", False) or keys.boolean("rope", False)):
            positions = keys.integer(("max_sequence_length",), 1024, high=LARGEST)
            yield self._matrix("wpe", "embedding", positions, width, self._plain())
        for number in range(self.depth):
            yield from self._block(number)
        if not self.tied:
            std = self.init_std if self.init_fn == "normal" else width**-0.5
            yield self._matrix("ff_out", "head", rows, width, std)

    def _block(self, number: int) -> Iterator[Matrix]:
        keys, width = self.keys, self.width
        heads = keys.integer(("n_heads",), 12, high=LARGEST)
        hidden = self._hidden()
        inner = hidden // 2 if keys.text("activation_type", "swiglu") == "swiglu" else hidden
        if not inner:
            raise keys.error(f"mlp_hidden_size {hidden} is too small for swiglu: write an even one")
        plain, where = self._plain(), self._path(number)
        if keys.text("block_type", "sequential") == "llama":
            few = width // heads if keys.values.get("multi_query_attention") is True else width
            projections = [("q_proj", width), ("k_proj", few), ("v_proj", few)]
        else:
            groups = self._groups(heads) * (width // heads)
            projections = [("att_proj", width + 2 * groups)]
        for part, out in projections:
            yield self._matrix(f"{where}.{part}", "attention", out, width, plain)
        out_std = self._last(number, width)
        yield self._matrix(f"{where}.attn_out", "attention", width, width, out_std)
        yield self._matrix(f"{where}.ff_proj", "feed_forward", hidden, width, plain)
        down_std = self._last(number, inner)
        yield self._matrix(f"{where}.ff_out", "feed_forward", width, inner, down_std)

    def _path(self, number: int) -> str:
        size = self.keys.integer(("block_group_size",), 1, high=_MOST_LAYERS)
        if size == 1:
            return f"blocks.{number}"
        return f"block_groups.{number // size}.{number % size}"

    def _matrix(self, part: str, kind: Kind, out: int, fan_in: int, std: float) -> Matrix:
        drawn = float(std) * kept(self.cut)
        return Matrix(f"transformer.{part}.weight", 1, (out, fan_in), fan_in, kind, drawn)

    def _hidden(self) -> int:
        ratio = self.keys.integer(("mlp_ratio",), 4, high=LARGEST)
        return self.keys.integer(("mlp_hidden_size",), ratio * self.width, high=LARGEST)

    def _groups(self, heads: int) -> int:
        alone = self.keys.values.get("multi_query_attention")
        return self.keys.integer(("n_kv_heads",), 1 if alone is True else heads, high=LARGEST)

    def _embedding(self) -> float:
        if self.keys.values.get("emb_init_std") is not None:
            return self.keys.positive(("emb_init_std",), 0.02)
        if self.init_fn == "full_megatron" and self.keys.boolean("scale_emb_init", False):
            return self.init_std * math.sqrt(self.width)
        return self._plain()

    def _plain(self) -> float:
        return float(self.width**-0.5) if self.init_fn == "mitchell" else self.init_std

    def _last(self, number: int, fan_in: int) -> float:
        """Return the nominal std of a block's output projections."""
        if self.init_fn == "mitchell":
            return 1 / math.sqrt(2 * fan_in * (number + 1))
        if self.init_fn == "full_megatron":
            return self.init_std / math.sqrt(2 * self.depth)
        return self.init_std


def model_of(keys: Keys) -> Model:
    """Read the ``model`` section.

    Raises:
        CriticalError: A key is wrong, or ``init_fn`` is not one of ai2-olmo's.
    """
    init_fn = keys.text("init_fn", "normal")
    if init_fn not in INIT_FNS:
        raise keys.error(
            f"init_fn {init_fn[:40]!r} is not one that ai2-olmo 0.6 draws with: write one of "
            f"{', '.join(INIT_FNS)}"
        )
    factor = keys.number(("init_cutoff_factor",), 0.0)
    given = keys.values.get("init_cutoff_factor") is not None
    if factor < 0 or (init_fn == "normal" and factor == 0 and given):
        raise keys.error("init_cutoff_factor is not above 0: write one, as 3, or null")
    return Model(
        keys=keys,
        width=keys.integer(("d_model",), 768, high=LARGEST),
        depth=keys.integer(("n_layers",), 12, high=_MOST_LAYERS),
        init_fn=init_fn,
        init_std=keys.positive(("init_std",), 0.02),
        cut=factor or (None if init_fn == "normal" else 3.0),
    )
