"""The shape of a GPT model of megatron-core's, and its matrices under their names there.

Every matrix is drawn with ``init_method_std``, embeddings with ``embedding_init_method_std``, and
those that write to the residual stream with std / √(2 · layers) (source: megatron-core 0.16.1,
transformer/transformer_config.py, ``__post_init__``; names from models/gpt, transformer/attention,
transformer/mlp and transformer/moe).
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from dataclasses import dataclass

from critical.frameworks.framework import Hook
from critical.frameworks.hooks import FILE_NAME, filled
from critical.frameworks.reading import DepthScaling, Reading
from critical.targets.layout import Kind, Matrix

EMBEDDING = "embedding.word_embeddings.weight"
_LAYER = "decoder.layers.*."
_LONGEST_PATTERN = 10_000


@dataclass(frozen=True, slots=True)
class Stds:
    """The stds that a model is drawn with.

    Attributes:
        inputs: Of the matrices that read the residual stream, the router and the head.
        outputs: Of those that write to it.
        embeddings: Of the embeddings.
    """

    inputs: float
    outputs: float
    embeddings: float

    @classmethod
    def scaled(cls, std: float, embeddings: float, depth: int) -> Stds:
        """Return what megatron-core makes of init_method_std and embedding_init_method_std."""
        return cls(std, std / math.sqrt(2 * depth), embeddings)


@dataclass(frozen=True, slots=True)
class Experts:
    """The mixture-of-experts layers.

    Attributes:
        count: Experts of a layer.
        inner: Feed-forward width of one.
        layers: How many layers have experts; the others are dense.
        grouped: Whether Transformer Engine keeps them as one module, with weight0, weight1 …
        shared: Feed-forward width of the shared experts; 0 for none.
        shared_gate: Whether a gate multiplies their output.
    """

    count: int
    inner: int
    layers: int
    grouped: bool = False
    shared: int = 0
    shared_gate: bool = False


@dataclass(frozen=True, slots=True)
class MegatronModel:
    """A GPT model.

    Attributes:
        width: hidden_size.
        depth: Layers.
        inner: ffn_hidden_size.
        heads: Attention heads.
        groups: Query groups; as many as heads without grouped queries.
        channels: kv_channels, the width of a head.
        gated: Whether the feed-forward is a gated unit, its first matrix of twice the rows.
        output_gate: Whether the queries' matrix also holds a gate of the attention output.
        vocabulary: Rows of the embedding, padded; 0 where the file does not tell.
        positions: Rows of the learned position embedding; 0 for none.
        tied: Whether the head is the embedding.
        experts: The experts; None for a dense model.
    """

    width: int
    depth: int
    inner: int
    heads: int
    groups: int
    channels: int
    gated: bool
    output_gate: bool
    vocabulary: int
    positions: int
    tied: bool
    experts: Experts | None = None

    def matrices(self, stds: Stds) -> tuple[Matrix, ...]:
        """List the matrices with the stds that they are drawn with."""
        width = self.width
        rows = (self.vocabulary, width)
        embedding = Matrix(EMBEDDING, 1, rows, width, "embedding", stds.embeddings)
        positions = Matrix(
            "embedding.position_embeddings.weight", 1, (self.positions, width), width,
            "embedding", stds.embeddings,
        )  # fmt: skip
        head = Matrix("output_layer.weight", 1, rows, width, "head", stds.inputs)
        return (
            embedding,
            *((positions,) if self.positions else ()),
            *self._attention(stds),
            *self._dense(stds),
            *self._experts(stds),
            *(() if self.tied else (head,)),
        )

    def _attention(self, stds: Stds) -> Iterator[Matrix]:
        query = self.heads * self.channels
        fused = query * (2 if self.output_gate else 1) + 2 * self.groups * self.channels
        kind: Kind = "attention"
        yield self._input("self_attention.linear_qkv.weight", fused, self.depth, stds, kind)
        yield self._output("self_attention.linear_proj.weight", query, self.depth, stds, kind)

    def _dense(self, stds: Stds) -> Iterator[Matrix]:
        layers = self.depth - (self.experts.layers if self.experts else 0)
        if layers:
            yield from self._feed_forward("mlp.linear_fc{}.weight", self.inner, layers, stds)

    def _experts(self, stds: Stds) -> Iterator[Matrix]:
        experts = self.experts
        if experts is None or not experts.layers:
            return
        layers = experts.layers
        yield self._input("mlp.router.weight", experts.count, layers, stds, "other")
        name = "local_experts.*.linear_fc{}.weight"
        name = f"mlp.experts.{'linear_fc{}.weight*' if experts.grouped else name}"
        yield from self._feed_forward(name, experts.inner, layers * experts.count, stds)
        if experts.shared:
            name = "mlp.shared_experts.linear_fc{}.weight"
            yield from self._feed_forward(name, experts.shared, layers, stds)
            if experts.shared_gate:
                yield self._input("mlp.shared_experts.gate_weight", 1, layers, stds, "other")

    def _feed_forward(self, name: str, inner: int, count: int, stds: Stds) -> Iterator[Matrix]:
        rows = 2 * inner if self.gated else inner
        yield self._input(name.format(1), rows, count, stds, "feed_forward")
        yield self._output(name.format(2), inner, count, stds, "feed_forward")

    def _input(self, name: str, rows: int, count: int, stds: Stds, kind: Kind) -> Matrix:
        shape = (rows, self.width)
        return Matrix(_LAYER + name, count, shape, self.width, kind, stds.inputs)

    def _output(self, name: str, fan_in: int, count: int, stds: Stds, kind: Kind) -> Matrix:
        return Matrix(_LAYER + name, count, (self.width, fan_in), fan_in, kind, stds.outputs)


def expert_layers(frequency: object, depth: int) -> int | None:
    """Return how many layers have experts; None where the frequency is no such.

    Args:
        frequency: N for every Nth layer from the first on, a list of zeros and ones, or either as
            a text, as ``([0]*3+[1]*1)*2``; nothing else of Python is understood.
        depth: Layers.
    """
    if isinstance(frequency, str) and len(frequency) <= _LONGEST_PATTERN:
        try:
            frequency = _evaluated(ast.parse(frequency.strip(), mode="eval").body, depth)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    if isinstance(frequency, list):
        pattern = [each for each in frequency if each in (0, 1)]
        return sum(pattern) if len(pattern) == len(frequency) == depth else None
    if not isinstance(frequency, int) or isinstance(frequency, bool) or frequency < 1:
        return None
    return len(range(0, depth, frequency))


def _evaluated(node: ast.expr, longest: int) -> list[int] | int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.List):
        found = [_evaluated(each, longest) for each in node.elts]
        return [each for each in found if isinstance(each, int)]
    if isinstance(node, ast.BinOp):
        left, right = _evaluated(node.left, longest), _evaluated(node.right, longest)
        if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
            return left + right
        times = right if isinstance(node.op, ast.Mult) and isinstance(right, int) else None
        if isinstance(left, list) and times is not None and len(left) * times <= longest:
            return left * times
    raise ValueError("not a list of zeros and ones")


def depth_scaling(stds: Stds, depth: int, remedy: str | None = None) -> DepthScaling | None:
    """Return how the output matrices are narrower, where it is by the number of layers.

    Args:
        stds: What the model is drawn with.
        depth: Layers.
        remedy: What turns it off; no option of Megatron-LM does.
    """
    if not math.isclose(stds.outputs * math.sqrt(2 * depth), stds.inputs, rel_tol=1e-6):
        return None
    return DepthScaling(f"std / √(2 · {depth})", remedy)


def padded(rows: int, divisor: int, tensor_parallel: int) -> int:
    """Return the embedding's rows for a vocabulary: a multiple of both numbers' product."""
    multiple = divisor * tensor_parallel
    return math.ceil(rows / multiple) * multiple


def megatron_hook(reading: Reading, gamma: float, usage: str) -> Hook:
    """Return the module whose functions draw every matrix by its whole fan-in.

    Args:
        reading: The model.
        gamma: The exponent.
        usage: One sentence: how to use it.
    """
    outputs: dict[tuple[str, int, bool], None] = {}
    for each in reading.matrices:
        if each.shape[0] == reading.width and _writes(each.name):
            name = each.name.removeprefix(_LAYER).removesuffix("*").removesuffix(".weight")
            of_experts = ".experts." in each.name
            outputs[(name.replace(".*", ""), each.fan_in, of_experts)] = None
    constants = {"GAMMA": gamma, "WIDTH": reading.width, "OUTPUTS": tuple(outputs)}
    return Hook(FILE_NAME, filled("megatron", constants), usage)


def _writes(name: str) -> bool:
    return any(part in name for part in ("linear_proj.", "linear_fc2.", ".dense.", ".linear2."))
