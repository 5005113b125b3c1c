"""The target's own family in transformers as a proxy: the same model, scaled down.

It has the interface of ``Decoder``. Attention is transformers' explicit one, whose weights can be
looked at, and dropout is off, as in the built-in proxy.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from critical.trials import hf_config
from critical.trials.architecture import Architecture
from critical.trials.errors import ModelError, SettingsError
from critical.trials.initialization import initialize
from critical.trials.run import ProxyRun, Scale
from critical.trials.settings import RELAXED_EPS, carried_eps, check_settings

_EPS = ("eps", "variance_epsilon")
_TRIED = Scale(width=64, depth=2, heads=4, tokens=1)
_ROUNDING = 1e-5
"""Of a logit in float32, in the unit of the greatest; what leaks from one token is far above."""


class HFDecoder(nn.Module):
    """A causal language model of transformers, over groups of tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()  # no dropout
        self._keeps_last = "logits_to_keep" in inspect.signature(model.forward).parameters

    @classmethod
    def of_run(
        cls,
        config: str,
        run: ProxyRun,
        architecture: Architecture,
        *,
        target_width: int | None,
        vocabulary: int,
        longest: int,
    ) -> HFDecoder:
        """Build the model of a run: the target's configuration at its scale, under its settings.

        Args:
            config: The target's own configuration, the JSON of a config.json.
            run: Its scale, seed, settings and γ are read.
            architecture: What is known of the target; ``carried`` needs its ε.
            target_width: d_model of the target.
            vocabulary: Number of token ids.
            longest: Longest sequence, tokens.

        Raises:
            SettingsError: The settings are not known, or no norm of this family can have them.
            ModelError: transformers is not installed, cannot build the family so small, or builds
                a model that attends to later tokens.
        """
        check_settings(run.settings, architecture, target_width)
        small = _built(config, run.scale, seed=run.seed, vocabulary=vocabulary, longest=longest)
        made = cls(small)
        if run.settings == "relaxed":
            for norm in norms(made.model):
                set_norm_eps(norm, RELAXED_EPS)
        elif run.settings == "carried":
            assert target_width is not None
            reading = norms_that_read_the_embedding(made.model, run.scale.depth)
            if not reading:
                raise SettingsError(
                    "--settings carried changes nothing in this target: no norm whose ε can be "
                    "set reads the embedding; leave carried out"
                )
            for norm in reading:
                eps = carried_eps(architecture, run.gamma, run.scale.width, target_width)
                set_norm_eps(norm, eps)
        return made

    def forward(self, tokens: Sequence[Tensor], last: Sequence[int]) -> list[Tensor]:
        """Return the logits at the last positions of each group, as ``Decoder.forward`` does."""
        return [self._logits(group, k) for group, k in zip(tokens, last, strict=True)]

    def _logits(self, group: Tensor, last: int) -> Tensor:
        keep = {"logits_to_keep": last} if self._keeps_last else {}
        logits = self.model(input_ids=group, use_cache=False, **keep).logits
        return cast(Tensor, logits[:, -last:])

    @torch.no_grad()
    def first_token_attention(self, tokens: Tensor) -> Tensor:
        """Return the share of attention that later positions pay to the first token, per block.

        Args:
            tokens: Token ids. Shape (n, t), t ≥ 2.

        Returns:
            As ``Decoder.first_token_attention``; NaN where a block has no attention weights, as a
            state-space layer. Shape (depth,), float32.
        """
        depth = int(cast(Any, self.model).config.num_hidden_layers)
        found = self.model(input_ids=tokens, use_cache=False, output_attentions=True)
        weights = getattr(found, "attentions", None) or ()
        if len(weights) != depth:  # families of mixed layers give those of some, unnumbered
            return torch.full((depth,), math.nan, device=tokens.device)
        t = tokens.shape[1]
        return torch.stack([_share(each, t).to(tokens.device) for each in weights])


def notes(config: str) -> tuple[str, ...]:
    """Build one small proxy of a target and say what of it γ and settings do not reach.

    Raises:
        ModelError: transformers is not installed, cannot build the family, or builds a model that
            attends to later tokens.
    """
    model = _built(config, _TRIED, seed=0, vocabulary=64, longest=16)
    left = initialize(model, 0.5).left
    found = []
    if left:
        found.append(
            f"γ does not draw tensors of the family's own kinds, as {left[0]}: they keep the "
            "family's initialization"
        )
    if not any(True for _ in norms(model)):
        found.append("the norms of this family have no ε that can be set: relaxed leaves it")
    return tuple(found)


def norms(model: nn.Module) -> Iterator[nn.Module]:
    """Yield every norm whose ε can be set, by its class's name, for each family has its own."""
    for module in model.modules():
        if "Norm" in type(module).__name__ and _eps_name(module) is not None:
            yield module


def set_norm_eps(norm: nn.Module, eps: float) -> None:
    """Set the ε of a norm that ``norms`` yielded."""
    name = _eps_name(norm)
    assert name is not None
    setattr(norm, name, eps)


@torch.no_grad()
def norms_that_read_the_embedding(model: nn.Module, depth: int) -> list[nn.Module]:
    """Return the norms whose input is the embedding, or what the first block is given.

    Found by running the model on a few tokens: families name and order their norms freely.

    Raises:
        SettingsError: The model has no list of ``depth`` blocks.
    """
    seen: list[tuple[nn.Module, Tensor]] = []
    given: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((module, _first_tensor(args, kwargs)))

    def note_block(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given.append(_first_tensor(args, kwargs))

    def note_embedding(_: nn.Module, __: object, output: Tensor) -> None:
        given.append(output)

    embedding = cast(Any, model).get_input_embeddings()
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    blocks = next((module for module in lists if len(module) == depth), None)
    if blocks is None:
        raise SettingsError(
            f"--settings carried cannot find the blocks of {type(model).__name__}, whose norms it "
            "changes: leave carried out"
        )
    handles = [norm.register_forward_pre_hook(note, with_kwargs=True) for norm in norms(model)]
    handles.append(blocks[0].register_forward_pre_hook(note_block, with_kwargs=True))
    handles.append(embedding.register_forward_hook(note_embedding))
    try:
        model(input_ids=torch.arange(4)[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    # A norm of the embedding itself, as BLOOM's, comes before the first block.
    for source in given:
        reading = [norm for norm, x in seen if x.shape == source.shape and torch.equal(x, source)]
        if reading:
            return reading
    return []


def _built(config: str, scale: Scale, *, seed: int, vocabulary: int, longest: int) -> nn.Module:
    small = hf_config.scaled_config(config, scale, vocabulary=vocabulary, longest=longest)
    hf_config.without_hub()
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=()), hf_config.quiet():
        torch.manual_seed(seed)  # for what γ does not draw
        try:
            model = AutoModelForCausalLM.from_config(
                small, attn_implementation="eager", dtype=torch.float32, trust_remote_code=False
            )
            causal = _is_causal(model.eval())
        # A family's code raises anything at a configuration that it did not expect.
        except Exception as reason:
            raise hf_config.not_built(small.model_type, scale, reason) from reason
    if not causal:
        raise ModelError(
            f"{type(model).__name__} as this target configures it attends to later tokens, which a "
            "language model is to predict: write the config of a causal decoder"
        )
    return cast(nn.Module, model)


@torch.no_grad()
def _is_causal(model: nn.Module) -> bool:
    """Whether the logits before the last token are the same whatever that is, but for rounding.

    Looked at with weights drawn at γ = 0.5: through a target's own, if they are small, so little
    comes from a token to others that it could be rounding. Its weights are put back.
    """
    weights = [parameter.detach() for parameter in model.parameters()]
    kept = [weight.clone() for weight in weights]
    initialize(model, 0.5)
    first, other = (
        model(input_ids=torch.tensor([[0, 1, 2, last]]), use_cache=False).logits[:, :-1]
        for last in (3, 4)
    )
    torch._foreach_copy_(weights, kept)
    return not bool((first - other).abs().max() > _ROUNDING * first.abs().max())


def _eps_name(module: nn.Module) -> str | None:
    return next((name for name in _EPS if isinstance(getattr(module, name, None), float)), None)


def _first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor))


def _share(weights: Tensor | None, t: int) -> Tensor:
    if weights is None or weights.shape[-2:] != (t, t):
        return torch.tensor(math.nan)
    return weights[..., 1:, 0].float().mean()
