"""The matrices of a model configuration that torchtitan has dumped, from its own tree.

``Trainer.Config.to_dict`` (torchtitan 0.3.0, trainer.py and config/configurable.py) writes every
module's configuration out, with shapes and initializers; paths in that tree are the module's names,
but for ``wkv``, which is built twice (models/common/attention.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from critical.errors import CriticalError, ExportError
from critical.frameworks.torchtitan_init import drawn_std, is_fused, is_skipped
from critical.targets.config_keys import Keys
from critical.targets.layout import Kind, Matrix, kind_of_block

LARGEST = 1 << 40
"""Of a dimension; what is above is no model."""
FAMILIES = ("llama3", "qwen3", "deepseek_v3", "gpt_oss")
"""Whose trees were compared with the models that they build."""
_DEEPEST = 12
_EXPERTS = {
    "w1_EFD": ("hidden_dim", 1, "dim"),
    "w2_EDF": ("dim", 1, "hidden_dim"),
    "w3_EFD": ("hidden_dim", 1, "dim"),
    "mlp1_weight_EGD": ("hidden_dim", 2, "dim"),
    "mlp2_weight_EDF": ("dim", 1, "hidden_dim"),
}
"""By parameter: output dimension, how many times, input dimension (models/common/moe.py and
models/gpt_oss/moe.py)."""
_NO_MATRIX = frozenset({"weight", "bias", "sinks", "mlp1_bias_EG", "mlp2_bias_ED"})


@dataclass(frozen=True, slots=True)
class Node:
    """One parameter that is a matrix, as a dump has it.

    Attributes:
        name: The parameter's, with all its numbers.
        shape: As stored.
        fan_in: Its input dimension.
        init: Its initializer as printed; None for the module's ``reset_parameters``.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int
    init: object

    def matrix(self, std: float) -> Matrix:
        """Return it as a matrix that is drawn with ``std``."""
        return Matrix(self.name, 1, self.shape, self.fan_in, self._kind, std)

    @property
    def _kind(self) -> Kind:
        if self.name.startswith("tok_embeddings."):
            return "embedding"
        return "head" if self.name.startswith("lm_head.") else kind_of_block(self.name)


def nodes(model: Mapping[str, Any], file_name: str) -> list[Node]:
    """List a model's matrices: embedding, blocks, head.

    Raises:
        ExportError: A part of it is not known, or says something that it cannot.
    """
    found = list(_walked(model, "", file_name, 0))
    layers = model.get("layers")
    missing = _missing(found, len(layers) if isinstance(layers, list) else 0)
    if missing is not None:
        raise ExportError(f"{file_name}: model_spec.model.{missing} has no matrices: dump it again")
    order = {"tok_embeddings": 0, "layers": 1, "lm_head": 2}
    return sorted(found, key=lambda node: order.get(node.name.partition(".")[0], 1))


def _missing(found: list[Node], depth: int) -> str | None:
    """Return a part that every model has and this one does not, or None."""
    names = [node.name.split(".") for node in found]
    parts = {".".join(name[:3]) if name[0] == "layers" else name[0] for name in names}
    wanted = ["tok_embeddings", "lm_head"]
    for number in range(depth):
        inner = "moe" if f"layers.{number}.moe" in parts else "feed_forward"
        wanted += [f"layers.{number}.attention", f"layers.{number}.{inner}"]
    return next((part for part in wanted if part not in parts), None)


def std_of(node: Node, linear: object) -> float | None:
    """Return the std that a matrix is drawn with, or None where it is not known.

    Args:
        node: The matrix.
        linear: The initializer that stands for a fused QKV's, which a dump does not tell.
    """
    if node.init is None:  # nn.Linear's kaiming_uniform_(√5) is U(−1/√f, 1/√f).
        return 1.0 if node.name.startswith("tok_embeddings.") else float((3 * node.fan_in) ** -0.5)
    return drawn_std(linear if is_fused(node.init) else node.init)


def tied(model: Mapping[str, Any], file_name: str, found: list[Node]) -> tuple[bool, list[Node]]:
    """Return whether embedding and head are one, and the matrices with that one once.

    It is drawn as the head says: the head is initialized last (models/common/decoder.py).
    """
    if not Keys(model, file_name, "model_spec.model", error=ExportError).boolean(
        "enable_weight_tying", False
    ):
        return False, found
    head = next((node for node in found if node.name == "lm_head.weight"), None)
    rest = [node for node in found if node is not head]
    if head is None or is_skipped(head.init):
        raise ExportError(f"{file_name}: the tied lm_head has no initializer: dump it again")
    return True, [
        Node(node.name, node.shape, node.fan_in, head.init)
        if node.name.startswith("tok_embeddings.")
        else node
        for node in rest
    ]


def _walked(value: object, path: str, file_name: str, depth: int) -> Iterator[Node]:
    if depth > _DEEPEST:
        raise ExportError(f"{file_name} is nested too deeply: write torchtitan's own dump")
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _walked(each, f"{path}.{number}", file_name, depth + 1)
    if not isinstance(value, Mapping):
        return
    keys = Keys(value, file_name, f"model_spec.model{path}", error=ExportError, hint="as dumped")
    if "in_features" in value:
        yield from _linear(keys, path)
    elif "num_embeddings" in value:
        rows, width = _size(keys, "num_embeddings"), _size(keys, "embedding_dim")
        yield Node(f"{path[1:]}.weight", (rows, width), width, _inits(keys).get("weight"))
    elif "hidden_dim" in value and "num_experts" in value:
        yield from _experts(keys, path)
    else:
        yield from _inside(keys, path, file_name, depth)


def _inside(keys: Keys, path: str, file_name: str, depth: int) -> Iterator[Node]:
    unknown = set(_inits(keys)) - _NO_MATRIX
    if unknown:
        raise _unknown(keys, min(unknown))
    for name, inner in keys.values.items():
        if name not in ("param_init", "sharding_config", "rope"):
            yield from _walked(inner, f"{path}.{name}", file_name, depth + 1)


def _linear(keys: Keys, path: str) -> Iterator[Node]:
    if "rank" in keys.values and "alpha" in keys.values:
        raise keys.error("LoRA adapts a model that is trained already: dump the pretraining's")
    shape = (_size(keys, "out_features"), _size(keys, "in_features"))
    parent, _, name = path[1:].rpartition(".")
    for built in ("wk", "wv") if name == "wkv" else (name,):
        full = f"{parent}.{built}.weight" if parent else f"{built}.weight"
        yield Node(full, shape, shape[1], _inits(keys).get("weight"))


def _experts(keys: Keys, path: str) -> Iterator[Node]:
    inits = _inits(keys)
    if not any(parameter in _EXPERTS for parameter in inits):
        raise keys.error("the experts have no initializers: dump the configuration again")
    for parameter, init in inits.items():
        if parameter in _EXPERTS:
            out, times, fan_in = _EXPERTS[parameter]
            inputs = _size(keys, fan_in)
            shape = (_size(keys, "num_experts"), times * _size(keys, out), inputs)
            yield Node(f"{path[1:]}.{parameter}", shape, inputs, init)
        elif parameter not in _NO_MATRIX:
            raise _unknown(keys, parameter)


def _inits(keys: Keys) -> Mapping[str, Any]:
    return keys.inner("param_init").values


def _unknown(keys: Keys, parameter: str) -> CriticalError:
    known = ", ".join(FAMILIES)
    return keys.error(f"parameter {parameter[:80]!r} is not known here: write a dump of {known}")


def _size(keys: Keys, name: str) -> int:
    return keys.integer((name,), high=LARGEST)
