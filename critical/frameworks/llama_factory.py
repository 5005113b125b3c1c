"""LLaMA-Factory: a Hugging Face config.json, drawn where ``train_from_scratch`` is true.

Its YAML has no key for a std, and the model is built by ``from_config`` from the folder that
model_name_or_path names (source: src/llamafactory/model/loader.py, load_model), so that the file
to edit is that folder's config.json.
"""

from __future__ import annotations

from dataclasses import replace

from critical.errors import ExportError
from critical.frameworks.documents.document import Document, Format
from critical.frameworks.framework import Changes, Hook, Source
from critical.frameworks.hf import alone, notes, reading_of, std_of
from critical.frameworks.hf_folder import config_of, target_in_folder, trainer_optimizer
from critical.frameworks.hooks import module_hook
from critical.frameworks.reading import Reading
from critical.targets.config_keys import Keys
from critical.targets.target import parse_target

_OWN = ("finetuning_type", "train_from_scratch", "cutoff_len", "dataset_dir", "template")
_NOTE = (
    "write train_from_scratch: true and model_name_or_path with this config.json's folder into "
    "LLaMA-Factory's YAML: without it the model is loaded, and nothing is drawn"
)
_USAGE = (
    "python critical_init.py FOLDER NEW_FOLDER draws FOLDER's config.json and saves it as a "
    "checkpoint: copy the tokenizer there, write it as model_name_or_path, and leave "
    "train_from_scratch out"
)


class LlamaFactory:
    """The config.json that LLaMA-Factory draws; its YAML can be read, and not edited."""

    name = "llama-factory"
    title = "LLaMA-Factory 0.9"
    formats: tuple[Format, ...] = ("json", "yaml")

    def claims(self, document: Document) -> bool:
        """Return whether it is LLaMA-Factory's YAML; a config.json is of transformers first."""
        values = document.values
        return (
            document.format == "yaml"
            and isinstance(values.get("model_name_or_path"), str)
            and any(key in values for key in _OWN)
        )

    def read(self, source: Source) -> Reading:
        """Return the model of a config.json, or of the folder that a YAML names.

        Raises:
            CriticalError: The model keeps its trained weights, is not in a folder here, or is no
                decoder.
        """
        if source.document.format == "json":
            target = parse_target(source.document.text, source.name)
            return reading_of(alone(target, self.name), self.name)
        keys = _keys(source)
        key = "model_name_or_path"
        named = keys.text(key)
        target = target_in_folder(source, key, named, {}, key)
        reading = reading_of(target, self.name)
        said = []
        if keys.values.get("resize_vocab"):
            said.append("rows that resize_vocab adds to the embeddings are drawn otherwise")
        return replace(
            reading,
            optimizer=trainer_optimizer(keys),
            remarks=(*reading.remarks, *said),
            edits=str(config_of(source, key, named)),
        )

    def changes(self, source: Source, reading: Reading, gamma: float) -> Changes:
        """Return ``initializer_range`` = width^−γ, for a config.json.

        Raises:
            CriticalError: The file is the YAML, or as of ``hf.std_of``.
        """
        if source.document.format != "json":
            named = _keys(source).text("model_name_or_path")
            path = config_of(source, "model_name_or_path", named)
            raise ExportError(
                f"{source.name} has no key for a std, which stands in {path}: write --config {path}"
            )
        target = parse_target(source.document.text, source.name)
        std = std_of(target, reading, gamma)
        return Changes({(target.initializer_key,): std}, (*notes(reading), _NOTE))

    def hook(self, reading: Reading, gamma: float) -> Hook | None:
        """Return the module that saves a drawn checkpoint, which LLaMA-Factory then loads."""
        return module_hook(gamma, _USAGE)


def _keys(source: Source) -> Keys:
    keys = Keys(
        source.document.values,
        source.name,
        None,
        error=ExportError,
        hint="as LLaMA-Factory reads it",
        lenient=True,
    )
    if not keys.boolean("train_from_scratch", False):
        raise keys.error(
            "train_from_scratch is not true, so that the model keeps its trained weights and "
            "nothing is drawn: write train_from_scratch: true"
        )
    return keys
