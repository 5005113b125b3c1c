"""LLM Foundry: ``model.init_config``, one std (baseline_) or one gain (kaiming_normal_) for all.

Of the two, an export takes the one that misses γ by less (source: llm-foundry 0.22,
models/utils/param_init_fns.py).
"""

from __future__ import annotations

import math
from dataclasses import replace

from critical.errors import ExportError
from critical.frameworks.documents.document import Document, Format, Path, Scalar
from critical.frameworks.documents.interpolation import resolved
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hooks import FILE_NAME, filled, module_hook
from critical.frameworks.llm_foundry_choice import nearest
from critical.frameworks.llm_foundry_hf import NAME as HF
from critical.frameworks.llm_foundry_hf import hf_changes, hf_reading
from critical.frameworks.llm_foundry_init import OURS, Initialization, torch_linear
from critical.frameworks.llm_foundry_model import HEAD, Mpt
from critical.frameworks.llm_foundry_optimizer import optimizer
from critical.frameworks.reading import Attention, DepthScaling, Norms, Reading, Setting
from critical.targets.config_keys import Keys

_MPT = "mpt_causal_lm"
_INIT = ("model", "init_config")
_OLD = ("param_init_fn", "init_std", "emb_init_std", "init_div_is_residual", "init_gain")
_USAGE = (
    f"put it where training starts, write code_paths: [{FILE_NAME}] at the YAML's top level, and "
    f"name: {OURS}{{gamma!r}} under model.init_config"
)
_HF_USAGE = (
    "python critical_init.py FOLDER NEW_FOLDER draws the model's config.json and saves it as a "
    "checkpoint: write NEW_FOLDER as pretrained_model_name_or_path, and pretrained: true"
)


class LlmFoundry:
    """LLM Foundry's YAML, of an MPT or of a Hugging Face model from scratch."""

    name = "llm-foundry"
    title = "LLM Foundry 0.22"
    formats: tuple[Format, ...] = ("yaml",)

    def claims(self, document: Document) -> bool:
        """Return whether its model is one of LLM Foundry's."""
        model = document.values.get("model")
        return isinstance(model, dict) and model.get("name") in (_MPT, HF)

    def read(self, source: Source) -> Reading:
        """Return the model that a configuration describes.

        Raises:
            CriticalError: It is not drawn by LLM Foundry, or of a model that is not known here.
        """
        keys = _keys(source)
        model = keys.inner("model")
        name = model.text("name")
        if name == HF:
            return replace(hf_reading(source, model, self.name), optimizer=optimizer(keys))
        if name != _MPT:
            raise model.error(f"name is {name[:40]!r}: write {_MPT}, or {HF}")
        return _mpt_reading(keys, model, source.name)

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return an initialization whose worst matrix misses γ by the least.

        Raises:
            CriticalError: As of ``read``.
        """
        keys = _keys(source)
        model = keys.inner("model")
        if model.text("name") == HF:
            return hf_changes(source, model, reading, gamma)
        mpt = _mpt(keys, model)
        choice = nearest(mpt, gamma)
        why = () if choice.why is None else (choice.why,)
        values: dict[Path, Scalar] = {(*_INIT, k): value for k, value in choice.values.items()}
        return Changes(values, (*why, *_head_notes(mpt)))

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module that registers an initialization by each matrix's fan-in."""
        if reading.target is not None:
            return module_hook(gamma, _HF_USAGE)
        text = filled("llm_foundry", {"GAMMA": float(gamma)})
        torchs = torch_linear(reading.width)
        undrawn = any(
            each.name == HEAD and math.isclose(each.configured_std, torchs)
            for each in reading.matrices
        )
        usage = _USAGE.format(gamma=float(gamma))
        return Hook(FILE_NAME, text, usage, leaves=(HEAD,) if undrawn else ())


def _keys(source: Source) -> Keys:
    values = resolved(source.document.values, source.name)
    # OmegaConf reads 1e-5 as the number that it is.
    hint = "as LLM Foundry reads it"
    return Keys(values, source.name, None, error=ExportError, hint=hint, lenient=True)


def _mpt(keys: Keys, model: Keys) -> Mpt:
    return Mpt.read(model, sharded=keys.values.get("fsdp_config") is not None)


def _mpt_reading(keys: Keys, model: Keys, file_name: str) -> Reading:
    mpt, section = _mpt(keys, model), model.inner("init_config")
    init = Initialization.read(section, mpt.width, mpt.depth)
    return Reading(
        framework="llm-foundry",
        file_name=file_name,
        model="mpt",
        width=mpt.width,
        depth=mpt.depth,
        matrices=mpt.matrices(init),
        std=_setting(init, section),
        norms=Norms(
            Setting(
                "model.norm_eps",
                model.positive(("norm_eps",), 1e-5),
                model.values.get("norm_eps") is not None,
            )
        ),
        tied=mpt.tied,
        attention=Attention(mpt.qk_norm, gated=False),
        depth_scaling=None
        if init.divisor == 1
        else DepthScaling(f"std / {init.divisor:.6g}", _remedy(init)),
        optimizer=optimizer(keys),
        remarks=(*_head_notes(mpt), *_old(model), *_ours(keys, init)),
    )


def _setting(init: Initialization, section: Keys) -> Setting[float] | None:
    """Return the std that init_config holds; None where there is only a rule."""
    where = ".".join(_INIT)
    if init.name == "baseline_":
        return Setting(f"{where}.init_std", init.init_std, stated=True)
    if init.embedding_std is not None and section.values.get("emb_init_std") is not None:
        return Setting(f"{where}.emb_init_std", init.embedding_std, stated=True)
    return None


def _remedy(init: Initialization) -> str | None:
    where = ".".join(_INIT)
    return None if init.name == "neox_init_" else f"{where}.init_div_is_residual: false"


def _head_notes(mpt: Mpt) -> tuple[str, ...]:
    if mpt.tied or mpt.head_drawn:
        return ()
    return (
        "the untied head keeps torch's own draw, 1/√(3·fan_in), because init_config reaches it "
        "only with init_device: meta and an fsdp_config",
    )


def _ours(keys: Keys, init: Initialization) -> tuple[str, ...]:
    if init.gamma is None:
        return ()
    paths = keys.values.get("code_paths")
    named = isinstance(paths, list) and any(str(path).endswith(FILE_NAME) for path in paths)
    missing = "" if named else ", which code_paths does not name"
    return (f"{FILE_NAME}{missing}, draws with γ {init.gamma:g} as init_config's name says",)


def _old(model: Keys) -> tuple[str, ...]:
    found = [key for key in _OLD if key in model.values]
    if not found:
        return ()
    keys = ", ".join(f"model.{key}" for key in found)
    return (f"LLM Foundry 0.22 ignores {keys}: what draws stands in model.init_config",)
