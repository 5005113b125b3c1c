"""What a family's configuration class in transformers takes for the keys that a file leaves out.

Of a configuration nested in another, save_pretrained writes what differs from its class only: the
text_config of Gemma 3 has no num_attention_heads, and LLaVA's no hidden_size. In a config.json
that stands alone every key is written, so that one that is missing there is a mistake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from critical.trials.errors import ModelError
from critical.trials.hf_config import family_of, quiet, without_code

_NOT_INSTALLED = 'or pip install "critical[hf]", for transformers knows what is taken without it'
_NOT_KNOWN = "for transformers does not know what is taken without it"


def completed(
    values: Mapping[str, Any], model_type: str, wanted: Sequence[Sequence[str]]
) -> Mapping[str, Any]:
    """Return a nested configuration with those of the wanted keys that its class has for it.

    It is returned as it is where transformers is not installed, or does not take it.

    Args:
        values: What the file says.
        model_type: The family.
        wanted: Keys that mean the same, by what they mean; one that is given stands.
    """
    defaults = _as_its_class_has_it(values, model_type)
    added = {}
    for names in wanted:
        known = next((name for name in names if defaults.get(name) is not None), None)
        if known is not None and all(values.get(name) is None for name in names):
            added[known] = defaults[known]
    return {**values, **added}


def hint() -> str:
    """Return what to do about a key that neither the file nor transformers tells."""
    return _NOT_INSTALLED if find_spec("transformers") is None else _NOT_KNOWN


def _as_its_class_has_it(values: Mapping[str, Any], model_type: str) -> Mapping[str, Any]:
    """Return every key; nothing is downloaded, and code that is named is never run."""
    try:
        family = family_of(model_type)
        with quiet():
            found: dict[str, Any] = family.from_dict(without_code(dict(values))).to_dict()
    except ModelError:
        return {}
    # Validation errors of transformers and huggingface_hub share no base class.
    except Exception:
        return {}
    return found
