"""Megatron-LM's command-line options, typed, and the model that they build.

Source: megatron/training/arguments.py of Megatron-LM with megatron-core 0.16, where most options
are the fields of TransformerConfig: defaults in core/transformer/transformer_config.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from critical.errors import ExportError
from critical.frameworks.documents.arguments_document import ArgumentsDocument
from critical.frameworks.megatron_model import (
    Experts,
    MegatronModel,
    expert_layers,
    padded,
)
from critical.frameworks.reading import Setting
from critical.targets.config_keys import Keys

_NOT_LISTED = "builds matrices that are not listed here"
_SHAPE_ELSEWHERE = "takes the model's shape from another file: write it as options"
REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "init-method-xavier-uniform": "draws no std, and fails in megatron-core 0.16: remove it",
        "no-initialization": "draws nothing: remove it",
        "yaml-cfg": _SHAPE_ELSEWHERE,
        "use-checkpoint-args": _SHAPE_ELSEWHERE,
        "heterogeneous-layers-config-path": _SHAPE_ELSEWHERE,
        "heterogeneous-layers-config-encoded-json": _SHAPE_ELSEWHERE,
        "spec": "names a layer specification that is not read: remove it, or write local",
        "use-legacy-models": "builds models of an older Megatron: remove it",
        "deepspeed": "is of Megatron-DeepSpeed, whose matrices have other names: remove it",
        "use-mup": "draws by µP's own rule: remove it to draw with γ",
        **dict.fromkeys(
            (
                "multi-latent-attention", "mtp-num-layers", "moe-latent-size",
                "experimental-attention-variant", "linear-attention-type", "is-hybrid-model",
                "hybrid-override-pattern", "hybrid-layer-pattern", "hybrid-attention-ratio",
                "hybrid-mlp-ratio", "moe-use-legacy-grouped-gemm", "retro-add-retriever",
                "retro-project-dir", "decoder-num-layers",
            ),
            f"{_NOT_LISTED}: remove it",
        ),
    }
)  # fmt: skip
"""Options that the exporter cannot take, with what to say of them."""
_INTEGER = re.compile(r"[-+]?\d{1,18}")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class MegatronArguments:
    """The options of one script.

    Args:
        document: The script.
    """

    def __init__(self, document: ArgumentsDocument) -> None:
        self._document, self.name = document, document.name
        self._read: dict[str, None] = {}
        self._keys = Keys(
            {f"--{name}": _typed(value) for name, value in document.values.items()},
            document.name,
            None,
            error=ExportError,
            hint="as an option of Megatron-LM",
        )

    def flag(self, name: str) -> bool:
        """Return whether a flag is given.

        Raises:
            ExportError: It may be given, or has a value.
        """
        if name in self._document.options.flags:
            return True
        self._known(name)
        if name in self._document.values:
            raise self._keys.error(f"--{name} is a flag and takes no value: write it alone")
        return False

    def integer(
        self, name: str, default: int | None = None, *, low: int = 1, high: int = 10**8
    ) -> int:
        """Read a whole number; without a default it is required."""
        self._known(name)
        return self._keys.integer((f"--{name}",), default, low=low, high=high)

    def positive(self, name: str, default: float) -> Setting[float]:
        """Read a number above 0."""
        self._known(name)
        value = self._keys.positive((f"--{name}",), default)
        return Setting(f"--{name}", value, self.given(name))

    def number(self, name: str, default: float) -> Setting[float]:
        """Read a number."""
        self._known(name)
        value = self._keys.number((f"--{name}",), default)
        return Setting(f"--{name}", value, self.given(name))

    def text(self, name: str, default: str) -> str:
        """Read a text."""
        self._known(name)
        return self._keys.text(f"--{name}", default)

    def given(self, name: str) -> bool:
        """Return whether an option is given, or may be."""
        return name in self._document.options.given

    def problem(self, *names: str) -> str | None:
        """Return why the value of an option cannot be told; None where every one can."""
        found = (self._document.unreadable.get(name) for name in names)
        return next((each for each in found if each is not None), None)

    def defaults(self) -> tuple[str, ...]:
        """Return a sentence on every option read so far that is a variable's default."""
        found = self._document.options.defaults
        return tuple(found[name] for name in self._read if name in found)

    def error(self, sentence: str) -> ExportError:
        """Return the error that says ``sentence`` of this script."""
        return ExportError(f"{self.name}: {sentence}")

    def model(self) -> MegatronModel:
        """Return the model that the options build.

        Raises:
            ExportError: An option is missing, or builds what is not known here.
        """
        self._refuse()
        width = self.integer("hidden-size")
        heads = self.integer("num-attention-heads")
        if not self.given("kv-channels") and width % heads:
            raise self.error(
                f"--num-attention-heads {heads} does not divide --hidden-size {width}: write a "
                "divisor, or --kv-channels"
            )
        depth = "num-layers" if self.given("num-layers") else "encoder-num-layers"
        layers = self.integer(depth, high=10**5)
        swiglu, grouped = self.flag("swiglu"), self.flag("group-query-attention")
        # Of SwiGLU, two thirds of 4 · width in multiples of 64, as validate_args has it.
        inner = int(4 * width * 2 / 3 / 64) * 64 if swiglu else 4 * width
        inner = self.integer("ffn-hidden-size", inner)
        return MegatronModel(
            width=width,
            depth=layers,
            inner=inner,
            heads=heads,
            groups=self.integer("num-query-groups", 1) if grouped else heads,
            channels=self.integer("kv-channels", width // heads),
            gated=swiglu or self.flag("quick-geglu"),
            output_gate=self.flag("attention-output-gate"),
            vocabulary=self._vocabulary(),
            positions=self._positions(),
            tied=not self.flag("untie-embeddings-and-output-weights"),
            experts=self._experts(layers, inner),
        )

    def _refuse(self) -> None:
        for name, reason in REFUSED.items():
            if self.given(name) and (name, self._document.values.get(name)) != ("spec", "local"):
                raise self.error(f"--{name} {reason}")
        program = re.search(
            r"^[^#\n]*\bpretrain_(bert|t5|mamba|retro|vlm|ict|vision\w*)\.py",
            self._document.text,
            re.MULTILINE,
        )
        if program:
            raise self.error(f"pretrain_{program[1]}.py {_NOT_LISTED}: write a script of GPT's")

    def _vocabulary(self) -> int:
        """Return the rows of the embedding; 0 where only the tokenizer or the shell knows."""
        if self.problem("padded-vocab-size", "vocab-size", "tokenizer-type"):
            return 0
        if self.given("padded-vocab-size"):
            return self.integer("padded-vocab-size")
        if not self.given("vocab-size"):
            return 0
        rows = self.integer("vocab-size")
        if self.text("tokenizer-type", "") == "NullTokenizer":
            rows += 1  # It adds a token for the end of a document.
        shards = self.integer("tensor-model-parallel-size", 1)
        return padded(rows, self.integer("make-vocab-size-divisible-by", 128), shards)

    def _positions(self) -> int:
        kind = self.text("position-embedding-type", "learned_absolute")
        if self.flag("use-rotary-position-embeddings"):
            kind = "rope"
        if kind == "relative":
            raise self.error("--position-embedding-type relative is not of GPT: write rope")
        learned = kind == "learned_absolute"
        return self.integer("max-position-embeddings") if learned else 0

    def _experts(self, depth: int, inner: int) -> Experts | None:
        count = self.integer("num-experts", 0, low=0)
        if not count:
            return None
        grouped = self.flag("moe-grouped-gemm")
        if grouped and (self.given("spec") or self.text("transformer-impl", "") == "local"):
            raise self.error(
                "--moe-grouped-gemm of --transformer-impl local keeps a layer's experts in one "
                "matrix, which is not listed here: remove it"
            )
        frequency = self._document.values.get("moe-layer-freq", "1")
        layers = expert_layers(frequency, depth)
        if layers is None:
            raise self.error(
                f"--moe-layer-freq {str(frequency)[:60]} is no number, nor a list of {depth} zeros "
                f"and ones: write one, as ([0]*1+[1]*{depth - 1})"
            )
        return Experts(
            count=count,
            inner=self.integer("moe-ffn-hidden-size", inner),
            layers=layers,
            grouped=grouped,
            shared=self.integer("moe-shared-expert-intermediate-size", 0, low=0),
            shared_gate=self.flag("moe-shared-expert-gate"),
        )

    def _known(self, name: str) -> None:
        self._read[name] = None
        if problem := self.problem(name):
            raise ExportError(problem)


def _typed(value: Any) -> Any:  # noqa: ANN401 (texts, flags and lists)
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value
