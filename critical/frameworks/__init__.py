"""The training frameworks whose configurations can be read, and how each takes an initialization.

Adding one is a module with a class of ``Framework`` and a line here; see CONTRIBUTING.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from critical.errors import ExportError
from critical.frameworks.axolotl import Axolotl
from critical.frameworks.flame import Flame
from critical.frameworks.framework import Changes, Framework, Hook, Source
from critical.frameworks.gpt_neox import GptNeoX
from critical.frameworks.hf import HuggingFace
from critical.frameworks.litgpt import LitGPT
from critical.frameworks.llama_factory import LlamaFactory
from critical.frameworks.llm_foundry import LlmFoundry
from critical.frameworks.megatron import Megatron
from critical.frameworks.megatron_bridge import MegatronBridge
from critical.frameworks.nanogpt import NanoGPT
from critical.frameworks.nanotron import Nanotron
from critical.frameworks.olmo import Olmo
from critical.frameworks.olmo_core import OlmoCore
from critical.frameworks.pytorch import PlainPyTorch
from critical.frameworks.reading import Reading
from critical.frameworks.refusals import ModdedNanoGPT, Nanochat
from critical.frameworks.torchtitan import Torchtitan

__all__ = ["FRAMEWORKS", "Changes", "Framework", "Hook", "Reading", "Source", "framework"]

_ALL: tuple[Framework, ...] = (
    HuggingFace(),
    Megatron(),
    MegatronBridge(),
    GptNeoX(),
    Torchtitan(),
    OlmoCore(),
    Olmo(),
    LitGPT(),
    Nanotron(),
    LlmFoundry(),
    Axolotl(),
    LlamaFactory(),
    Flame(),
    NanoGPT(),
    PlainPyTorch(),
    Nanochat(),
    ModdedNanoGPT(),
)
FRAMEWORKS: Final = MappingProxyType({each.name: each for each in _ALL})
"""Every framework by the name that follows ``--to``."""


def framework(name: str) -> Framework:
    """Return the framework of that name.

    Raises:
        ExportError: No framework has it; the message lists those that there are.
    """
    try:
        return FRAMEWORKS[name]
    except KeyError:
        known = ", ".join(sorted(FRAMEWORKS))
        raise ExportError(f"framework {name!r} is not known: write one of {known}") from None
