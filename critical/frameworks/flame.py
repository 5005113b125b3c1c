"""flame: a Hugging Face config.json, of transformers' families or flash-linear-attention's own.

The model is built on the meta device and drawn by ``post_init`` after to_empty, as transformers
does (source: flame/train.py). Of flash-linear-attention's own families, ``transformer`` is read by
formula: every matrix N(0, initializer_range²), residual projections too, because nothing passes
``rescale_prenorm_residual`` (source: flash-linear-attention 0.6.0,
fla/models/transformer/modeling_transformer.py; fla-core 0.6.0, fla/modules/mlp.py).
"""

from __future__ import annotations

import math

from critical.errors import ExportError
from critical.frameworks.documents.document import Document, Format
from critical.frameworks.fla_families import OF_FLA_ONLY
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hf import alone, notes, reading_of, std_of
from critical.frameworks.hooks import module_hook
from critical.frameworks.reading import Attention, Norms, Reading, Setting
from critical.targets.config_keys import Keys
from critical.targets.layout import Matrix
from critical.targets.matrices import LlamaShape, llama_matrices
from critical.targets.target import parse_target

_READ = "transformer"
_KEY = "initializer_range"
_VOCABULARY = "flame raises vocab_size to the tokenizer's where that is larger"
_NOTE = "flame reads this file where it is started with --model.config and its path"
_USAGE = "in flame/train.py, call critical_init.initialize(model) right after model.post_init()"


class Flame:
    """The config.json that flame's ``--model.config`` names."""

    name = "flame"
    title = "flame, flash-linear-attention 0.6"
    formats: tuple[Format, ...] = ("json",)

    def claims(self, document: Document) -> bool:
        """Return whether it is of a family that only flash-linear-attention knows."""
        family = document.values.get("model_type")
        return isinstance(family, str) and family in OF_FLA_ONLY

    def read(self, source: Source) -> Reading:
        """Return the model that a config.json describes.

        Raises:
            CriticalError: Its matrices are not known here.
        """
        family = source.document.values.get("model_type")
        if family == _READ:
            return _transformer(_keys(source), source.name)
        if isinstance(family, str) and family in OF_FLA_ONLY:
            raise ExportError(
                f"{source.name}: the matrices of flash-linear-attention's {family} are not known "
                f"here, of its own families only those of {_READ} are: write the config of one of "
                "these, or of a family of transformers"
            )
        target = parse_target(source.document.text, source.name)
        return reading_of(alone(target, self.name), self.name)

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return ``initializer_range`` = width^−γ.

        Raises:
            CriticalError: As of ``hf.std_of``.
        """
        if source.document.values.get("model_type") == _READ:
            return Changes({(_KEY,): float(reading.width**-gamma)}, (_NOTE,))
        target = parse_target(source.document.text, source.name)
        std = std_of(target, reading, gamma)
        return Changes({(target.initializer_key,): std}, (*notes(reading), _NOTE))

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module that redraws every matrix by its own fan-in."""
        return module_hook(gamma, _USAGE)


def _keys(source: Source) -> Keys:
    hint = "as flash-linear-attention's save_pretrained does"
    return Keys(source.document.values, source.name, None, error=ExportError, hint=hint)


def _transformer(keys: Keys, name: str) -> Reading:
    if keys.values.get("attnres_block_size") is not None:
        raise keys.error(
            "attnres_block_size adds projections that must start at 0: leave it out to draw with γ"
        )
    width = keys.integer(("hidden_size",), 2048, low=2, high=10**6)
    depth = keys.integer(("num_hidden_layers",), 24, high=10**4)
    std = keys.number((_KEY,), 0.02)
    if std <= 0:
        raise keys.error(f"{_KEY} is {std}: write a positive number, as 0.02")
    tied = keys.boolean("tie_word_embeddings", False)
    stated = keys.values.get(_KEY) is not None
    eps = keys.positive(("norm_eps",), 1e-6)
    return Reading(
        framework="flame",
        file_name=name,
        model=_READ,
        width=width,
        depth=depth,
        matrices=_matrices(keys, width, depth, std, tied=tied),
        std=Setting(_KEY, std, stated),
        norms=Norms(Setting("norm_eps", eps, keys.values.get("norm_eps") is not None)),
        tied=tied,
        attention=Attention(keys.boolean("qk_norm", False), gated=False),
        remarks=(_VOCABULARY,),
    )


def _matrices(keys: Keys, width: int, depth: int, std: float, *, tied: bool) -> tuple[Matrix, ...]:
    heads = keys.integer(("num_heads",), 32, high=10**5)
    kv_heads = keys.integer(("num_kv_heads",), heads, high=10**5)
    if width % heads or heads % kv_heads:
        raise keys.error(
            f"num_heads {heads} and num_kv_heads {kv_heads} do not divide hidden_size {width}: "
            "write divisors of it"
        )
    shape = LlamaShape(
        width=width,
        depth=depth,
        queries=width,
        values=width // heads * kv_heads,
        feed_forward=_inner(keys, width),
        vocabulary=keys.integer(("vocab_size",), 32000, high=10**8),
        tied=tied,
    )
    return llama_matrices(shape, std, embedding="model.embeddings", attention="attn")


def _inner(keys: Keys, width: int) -> int:
    """Return the feed-forward's size: given, or ⅔ · hidden_ratio · width up to a multiple of 256.

    Of a product that is no whole number the part below 1 is dropped first, as fla does.
    """
    if keys.values.get("intermediate_size") is not None:
        return keys.integer(("intermediate_size",), high=10**7)
    ratio = keys.integer(("hidden_ratio",), 4, high=1000)
    return 256 * math.ceil(int(width * ratio * 2 / 3) / 256)
