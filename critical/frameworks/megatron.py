"""Megatron-LM: one std for every matrix, ``--init-method-std``, divided for those that write.

Matrices that write to the residual stream are drawn with std / √(2 · layers), and no option turns
that off; the hook's functions for TransformerConfig do (source: megatron-core 0.16.1,
transformer/transformer_config.py, ``__post_init__``).
"""

from __future__ import annotations

from critical.errors import ExportError
from critical.frameworks.documents.arguments_document import ArgumentsDocument
from critical.frameworks.documents.document import Document, Format, Scalar
from critical.frameworks.documents.document import Path as KeyPath
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.megatron_arguments import MegatronArguments
from critical.frameworks.megatron_model import MegatronModel, Stds, depth_scaling, megatron_hook
from critical.frameworks.reading import Attention, Norms, Optimizer, Reading

_STD, _EMBEDDING_STD = "init-method-std", "embedding-init-method-std"
_EPS = "norm-epsilon"
_OPTIMIZER = (
    "optimizer",
    "adam-eps",
    "weight-decay",
    "weight-decay-incr-style",
    "end-weight-decay",
)
_USAGE = (
    "call critical_init.apply(config) right after config = core_transformer_config_from_args(args)"
    ", which is in gpt_builders.py, or in pretrain_gpt.py of older versions"
)
NO_DECAY = (
    "that the embeddings have a std of their own keeps weight decay off them in some versions of "
    "Megatron, as its documentation says, and not in megatron-core 0.16.1"
)


class Megatron:
    """A script, batch job or file with the options of Megatron-LM's pretrain_gpt.py."""

    name = "megatron"
    title = "Megatron-LM with megatron-core 0.16"
    formats: tuple[Format, ...] = ("arguments",)

    def claims(self, document: Document) -> bool:
        """Return whether it gives Megatron's options for a model's shape."""
        shape = {"num-layers", "hidden-size", "num-attention-heads"}
        return isinstance(document, ArgumentsDocument) and shape <= document.options.given.keys()

    def read(self, source: Source) -> Reading:
        """Return the model that a script's options build.

        Raises:
            ExportError: An option is missing or cannot be told, or builds what is not known here.
        """
        document = _document(source)
        options = MegatronArguments(document)
        model = options.model()
        std = options.positive(_STD, 0.02)
        stds = Stds.scaled(
            std.value, options.positive(_EMBEDDING_STD, std.value).value, model.depth
        )
        return Reading(
            framework=self.name,
            file_name=source.name,
            model="GPT",
            width=model.width,
            depth=model.depth,
            matrices=model.matrices(stds),
            std=std,
            norms=_norms(options),
            tied=model.tied,
            attention=Attention(
                options.flag("qk-layernorm") or options.flag("qk-l2-norm"), model.output_gate
            ),
            depth_scaling=depth_scaling(stds, model.depth),
            optimizer=_optimizer(options),
            remarks=_remarks(document, options, model),
        )

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return the std, width^−γ, also for the embeddings where the script gives them one.

        Only there: it is the same number, older versions do not know the option, and in some it
        keeps weight decay off the embeddings.

        Raises:
            ExportError: The script's options cannot be told.
        """
        std = float(reading.width**-gamma)
        values: dict[KeyPath, Scalar] = {(_STD,): std}
        if _EMBEDDING_STD in _document(source).options.given:
            values[(_EMBEDDING_STD,)] = std
        return Changes(values, (no_off_switch(reading.depth),))

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module with the three functions that TransformerConfig takes."""
        return megatron_hook(reading, gamma, _USAGE)


def no_off_switch(depth: int) -> str:
    """Return the sentence on the scaling that stays."""
    return (
        f"Megatron divides the std of linear_proj and linear_fc2 by √(2 · {depth}), and no option "
        "turns that off"
    )


def _document(source: Source) -> ArgumentsDocument:
    if not isinstance(source.document, ArgumentsDocument):
        raise ExportError(
            f"{source.name} holds no options of Megatron-LM: write a script that does"
        )
    return source.document


def _norms(options: MegatronArguments) -> Norms | None:
    if options.problem(_EPS):
        return None
    return Norms(options.positive(_EPS, 1e-5))


def _optimizer(options: MegatronArguments) -> Optimizer | None:
    if options.problem(*_OPTIMIZER) or options.text("optimizer", "adam") != "adam":
        return None
    decay = options.number("weight-decay", 0.01)
    if options.text("weight-decay-incr-style", "constant") != "constant":
        decay = options.number("end-weight-decay", decay.value)
    own_std = options.given(_EMBEDDING_STD)
    return Optimizer(options.positive("adam-eps", 1e-8), decay, None if own_std else True)


def _remarks(
    document: ArgumentsDocument, options: MegatronArguments, model: MegatronModel
) -> tuple[str, ...]:
    said = [*document.options.remarks, *options.defaults()]
    if not model.vocabulary:
        said.append(
            "how many rows the embedding has is the tokenizer's to say, and shown as 0 here: "
            "--padded-vocab-size would tell"
        )
    said += [
        problem for problem in (options.problem(_EPS), options.problem(*_OPTIMIZER)) if problem
    ]
    if options.given(_EMBEDDING_STD):
        said.append(NO_DECAY)
    return tuple(said)
