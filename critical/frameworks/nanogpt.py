"""nanoGPT: a config/train_*.py of assignments over train.py's own, and no key for a std.

Every matrix is N(0, 0.02²); those that end in c_proj.weight are drawn again with 0.02/√(2·n_layer)
(source: nanoGPT's model.py, GPT.__init__ and _init_weights, and the defaults of its train.py).
"""

from __future__ import annotations

import math

from critical.errors import ExportError
from critical.frameworks.documents.document import Document, Format
from critical.frameworks.documents.python_document import EVERY_NAME, PythonDocument
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hooks import module_hook
from critical.frameworks.reading import (
    Attention,
    DepthScaling,
    Norms,
    Optimizer,
    Reading,
    Setting,
)
from critical.targets.config_keys import Keys
from critical.targets.layout import Kind, Matrix

_STD = 0.02
_VOCABULARY = 50304
_OWN = frozenset(
    {
        "always_save_checkpoint",
        "block_size",
        "decay_lr",
        "eval_interval",
        "eval_iters",
        "gradient_accumulation_steps",
        "learning_rate",
        "log_interval",
        "lr_decay_iters",
        "max_iters",
        "min_lr",
        "wandb_run_name",
        "warmup_iters",
    }
)
_NANOCHAT = frozenset({"depth", "device_batch_size", "matrix_lr", "unembedding_lr"})
_USAGE = "in train.py, call critical_init.initialize(model) right after model = GPT(gptconf)"


class NanoGPT:
    """nanoGPT's configuration files, which are read and stay as they are."""

    name = "nanogpt"
    title = "nanoGPT"
    formats: tuple[Format, ...] = ("python",)

    def claims(self, document: Document) -> bool:
        """Return whether it assigns what nanoGPT's train.py has, and nothing of nanochat's."""
        names = document.values.keys()
        if document.format != "python" or names & _NANOCHAT:
            return False
        return {"n_layer", "n_embd"} <= names or len(names & _OWN) >= 4

    def read(self, source: Source) -> Reading:
        """Return the model that a configuration describes.

        Raises:
            ExportError: The model starts from a checkpoint, or a name that its shape needs is
                assigned what only running the file would tell.
        """
        keys = _keys(source)
        starts = keys.text("init_from", "scratch")
        if starts != "scratch":
            raise keys.error(
                f"init_from is {starts[:40]!r}, so that the weights are loaded and nothing is "
                "drawn: write init_from = 'scratch'"
            )
        width = keys.integer(("n_embd",), 768, low=2, high=10**6)
        depth = keys.integer(("n_layer",), 12, high=10**4)
        heads = keys.integer(("n_head",), 12, high=10**5)
        if width % heads:
            raise keys.error(f"n_head {heads} does not divide n_embd {width}: write a divisor")
        context = keys.integer(("block_size",), 1024, high=10**7)
        decay = keys.number(("weight_decay",), 0.1)
        return Reading(
            framework=self.name,
            file_name=source.name,
            model="GPT",
            width=width,
            depth=depth,
            matrices=_matrices(width, depth, context),
            std=None,
            norms=Norms(Setting("ε in LayerNorm.forward of model.py", 1e-5, stated=False)),
            tied=True,
            attention=Attention(qk_norm=False, gated=False),
            depth_scaling=DepthScaling(
                f"0.02 / √(2 · {depth})", "in model.py, delete the loop over c_proj.weight"
            ),
            optimizer=Optimizer(
                Setting("eps of AdamW in model.py", 1e-8, stated=False),
                Setting("weight_decay", decay, keys.values.get("weight_decay") is not None),
                decays_embeddings=True,
            ),
            remarks=(
                f"the vocabulary is {_VOCABULARY} unless the data set's meta.pkl names another",
                "what the command line sets, as --n_layer=6, is not in this file",
            ),
        )

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return nothing to set."""
        return Changes({})

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module that redraws every matrix by its own fan-in."""
        return module_hook(gamma, _USAGE)


def _keys(source: Source) -> Keys:
    document = source.document
    keys = Keys(document.values, source.name, None, error=ExportError, hint="as a number")
    unread = document.unread if isinstance(document, PythonDocument) else {}
    for name in ("n_layer", "n_head", "n_embd", "block_size", "init_from", "weight_decay"):
        line = unread.get(name, unread.get(EVERY_NAME))
        if line is not None and name not in document.values:
            raise keys.error(
                f"{name} is set in line {line} to what only running the file would tell: write "
                "the value itself below it"
            )
    return keys


def _matrices(width: int, depth: int, context: int) -> tuple[Matrix, ...]:
    narrow = _STD / math.sqrt(2 * depth)
    blocks: tuple[tuple[str, int, int, Kind, float], ...] = (
        ("attn.c_attn", 3 * width, width, "attention", _STD),
        ("attn.c_proj", width, width, "attention", narrow),
        ("mlp.c_fc", 4 * width, width, "feed_forward", _STD),
        ("mlp.c_proj", width, 4 * width, "feed_forward", narrow),
    )
    return (
        Matrix("transformer.wte.weight", 1, (_VOCABULARY, width), width, "embedding", _STD),
        Matrix("transformer.wpe.weight", 1, (context, width), width, "embedding", _STD),
        *(
            Matrix(f"transformer.h.*.{name}.weight", depth, (out, fan_in), fan_in, kind, std)
            for name, out, fan_in, kind, std in blocks
        ),
    )
