"""torchtitan's dumps read, and the override that sets every initializer."""

from __future__ import annotations

import ast
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.errors import CriticalError, ExportError
from critical.export import export
from critical.frameworks import framework
from critical.frameworks.documents.json_document import JsonDocument
from critical.frameworks.documents.python_document import PythonDocument
from critical.frameworks.framework import Source
from critical.frameworks.reading import Reading
from critical.frameworks.torchtitan_init import drawn_std
from critical.frameworks.truncation import TRUNCATED_AT_3

WIDTH, INNER, WORDS, DEPTH = 256, 768, 2048, 3
ZEROS = "<function zeros_ at 0x7f9a5e15a5c0>"
FUSED = "<function _fused_qkv_param_init.<locals>._make_init.<locals>._init at 0x7f9a3c12fec0>"


def trunc(std: float, *, cut: float | None = None) -> str:
    """Return torch's trunc_normal_ as torchtitan's dump prints it."""
    cuts = "" if cut is None else f", a={-cut * std}, b={cut * std}"
    return f"functools.partial(<function trunc_normal_ at 0x7f9a5e15a3e0>, std={std}{cuts})"


def normal(std: float) -> str:
    """Return torch's normal_ as torchtitan's dump prints it."""
    return f"functools.partial(<function normal_ at 0x7f9a5e15a2a0>, std={std})"


def linear(out: int, inputs: int, init: str | None) -> dict[str, Any]:
    """Return a Linear.Config."""
    inits = None if init is None else {"weight": init, "bias": ZEROS}
    return {
        "param_init": inits,
        "sharding_config": None,
        "in_features": inputs,
        "out_features": out,
        "bias": False,
    }


def norm(eps: float = 1e-5) -> dict[str, Any]:
    """Return an RMSNorm.Config."""
    ones = {"weight": "<function ones_ at 0x7f9a5e15a520>"}
    return {"param_init": ones, "normalized_shape": WIDTH, "eps": eps, "elementwise_affine": True}


def llama3_block(number: int) -> dict[str, Any]:
    """Return a block as torchtitan's llama3 has it: wo, w2 and w3 by depth."""
    last = trunc(0.02 / (2 * (number + 1)) ** 0.5)
    return {
        "param_init": None,
        "attention": {
            "param_init": None,
            "n_heads": 16,
            "dim": WIDTH,
            "qkv_linear": {"param_init": None, "wqkv": linear(3 * WIDTH, WIDTH, FUSED)},
            "wo": linear(WIDTH, WIDTH, last),
            "qk_norm": None,
            "rope": {"param_init": None, "dim": 16, "theta": 500000},
        },
        "feed_forward": {
            "param_init": None,
            "w1": linear(INNER, WIDTH, trunc(0.02)),
            "w2": linear(WIDTH, INNER, last),
            "w3": linear(INNER, WIDTH, last),
        },
        "moe": None,
        "attention_norm": norm(),
        "ffn_norm": norm(),
    }


def llama3() -> dict[str, Any]:
    """Return what ``Trainer.Config.to_dict`` gives of a small llama3."""
    adamw = {"lr": 0.0008, "betas": [0.9, 0.95], "eps": 1e-08, "weight_decay": 0.1}
    return {
        "model_spec": {
            "name": "llama3",
            "flavor": "debugmodel",
            "model": {
                "param_init": None,
                "sharding_config": None,
                "dim": WIDTH,
                "vocab_size": WORDS,
                "lm_head": linear(WORDS, WIDTH, trunc(WIDTH**-0.5, cut=3.0)),
                "tok_embeddings": {
                    "param_init": {"weight": normal(1.0)},
                    "num_embeddings": WORDS,
                    "embedding_dim": WIDTH,
                },
                "norm": norm(),
                "layers": [llama3_block(number) for number in range(DEPTH)],
                "enable_weight_tying": False,
            },
        },
        "dump_folder": "./outputs",
        "optimizer": {
            "param_groups": [
                {"pattern": ".*", "optimizer_name": "AdamW", "optimizer_kwargs": adamw}
            ],
            "implementation": "fused",
        },
    }


def source(values: dict[str, Any]) -> Source:
    """Return a dump as a file."""
    return Source(JsonDocument(json.dumps(values, indent=2), "config.json"))


def read(values: dict[str, Any]) -> Reading:
    """Return the reading of a dump."""
    return framework("torchtitan").read(source(values))


def model(values: dict[str, Any]) -> dict[str, Any]:
    """Return a dump's model."""
    found: dict[str, Any] = values["model_spec"]["model"]
    return found


def stds(reading: Reading) -> dict[str, float]:
    """Return the stds of a reading by name."""
    return {each.name: each.configured_std for each in reading.matrices}


def test_llama3_is_read_as_torchtitan_draws_it() -> None:
    """Embedding N(0, 1), 0.02 uncut at ±2, blocks by depth, the head cut at ±3 std."""
    reading = read(llama3())
    assert stds(reading) == pytest.approx(
        {
            "tok_embeddings.weight": 1.0,
            "layers.*.attention.qkv_linear.wqkv.weight": 0.02,
            "layers.0.attention.wo.weight": 0.02 / math.sqrt(2),
            "layers.1.attention.wo.weight": 0.01,
            "layers.2.attention.wo.weight": 0.02 / math.sqrt(6),
            "layers.*.feed_forward.w1.weight": 0.02,
            "layers.0.feed_forward.w2.weight": 0.02 / math.sqrt(2),
            "layers.1.feed_forward.w2.weight": 0.01,
            "layers.2.feed_forward.w2.weight": 0.02 / math.sqrt(6),
            "layers.0.feed_forward.w3.weight": 0.02 / math.sqrt(2),
            "layers.1.feed_forward.w3.weight": 0.01,
            "layers.2.feed_forward.w3.weight": 0.02 / math.sqrt(6),
            "lm_head.weight": TRUNCATED_AT_3 / 16,
        }
    )
    assert (reading.width, reading.depth, reading.std, reading.tied) == (256, 3, None, False)
    assert sum(each.count for each in reading.matrices) == 2 + 5 * DEPTH


def test_shapes_fan_ins_and_kinds_are_torchtitans() -> None:
    """Linear weights are (out, in); an embedding's fan-in is its own dimension."""
    found = {each.name: each for each in read(llama3()).matrices}
    down = found["layers.1.feed_forward.w2.weight"]
    assert (down.shape, down.fan_in, down.kind) == ((256, 768), 768, "feed_forward")
    words = found["tok_embeddings.weight"]
    assert (words.shape, words.fan_in, words.kind) == ((2048, 256), 256, "embedding")
    assert found["layers.*.attention.qkv_linear.wqkv.weight"].kind == "attention"
    assert found["lm_head.weight"].kind == "head"


def test_what_else_a_dump_tells_is_read() -> None:
    """Norm ε, AdamW's settings, depth scaling, and the assumption on the fused QKV."""
    reading = read(llama3())
    assert reading.norms is not None and reading.norms.eps.value == 1e-5
    assert reading.attention.qk_norm is False
    assert reading.depth_scaling is not None
    assert reading.depth_scaling.formula == "std / √(2 · (block + 1)), blocks from 0"
    assert reading.optimizer is not None
    assert (reading.optimizer.eps.value, reading.optimizer.weight_decay.value) == (1e-8, 0.1)
    assert reading.optimizer.decays_embeddings is True
    assert "fused wqkv" in reading.remarks[0]


def test_several_groups_of_parameters_leave_the_optimizer_unknown() -> None:
    """Which group an embedding is in is not guessed."""
    values = llama3()
    values["optimizer"]["param_groups"].insert(
        0, {"pattern": "tok_emb", "optimizer_name": "AdamW", "optimizer_kwargs": {}}
    )
    assert read(values).optimizer is None


def test_wkv_is_two_matrices_and_a_tied_head_is_drawn_once() -> None:
    """QKVLinear builds wkv twice; the head is initialized last, so that its std counts."""
    values = llama3()
    for block in model(values)["layers"]:
        block["attention"]["qkv_linear"] = {
            "wq": linear(WIDTH, WIDTH, trunc(0.02)),
            "wkv": linear(64, WIDTH, trunc(0.02)),
        }
    model(values)["enable_weight_tying"] = True
    skip = {"weight": "<function skip_param_init at 0x7f9a5e15a111>"}
    model(values)["tok_embeddings"]["param_init"] = skip
    reading = read(values)
    found = stds(reading)
    assert {"layers.*.attention.qkv_linear.wk.weight"} < set(found)
    assert {"layers.*.attention.qkv_linear.wv.weight"} < set(found)
    assert "lm_head.weight" not in found and reading.tied
    assert found["tok_embeddings.weight"] == pytest.approx(TRUNCATED_AT_3 / 16)
    assert reading.remarks == ()


def test_experts_are_stacks_with_the_fan_in_of_their_last_dimension() -> None:
    """w1 and w3 read the width, w2 the experts' inner dimension; gpt_oss fuses gate and up."""
    values = llama3()
    values["model_spec"]["name"] = "qwen3"
    experts = {"w1_EFD": normal(0.02), "w2_EDF": normal(0.005), "w3_EFD": normal(0.02)}
    gpt_oss = {"mlp1_weight_EGD": normal(0.02), "mlp2_weight_EDF": normal(0.02)}
    gpt_oss |= {"mlp1_bias_EG": normal(0.02), "mlp2_bias_ED": normal(0.02)}
    for block, inits in zip(model(values)["layers"], (experts, experts, gpt_oss), strict=True):
        block["feed_forward"] = None
        block["moe"] = {
            "num_experts": 8,
            "router": {"param_init": None, "gate": linear(8, WIDTH, normal(0.02))},
            "routed_experts": {
                "inner_experts": {
                    "param_init": inits,
                    "dim": WIDTH,
                    "hidden_dim": 96,
                    "num_experts": 8,
                }
            },
        }
    reading = read(values)
    found = {each.name: each for each in reading.matrices}
    where = "layers.*.moe.routed_experts.inner_experts"
    assert found[f"{where}.w1_EFD"].shape == (8, 96, 256)
    assert found[f"{where}.w2_EDF"].fan_in == 96
    assert found[f"{where}.mlp1_weight_EGD"].shape == (8, 192, 256)
    assert not [name for name in found if "bias" in name]
    assert found["layers.*.moe.router.gate.weight"].kind == "other"


def test_a_linear_without_an_initializer_is_torchs_own() -> None:
    """kaiming_uniform_(√5) is U(−1/√f, 1/√f), whose std is 1/√(3f)."""
    values = llama3()
    model(values)["lm_head"]["param_init"] = None
    assert stds(read(values))["lm_head.weight"] == pytest.approx(1 / math.sqrt(3 * 256))


@pytest.mark.parametrize(
    ("printed", "std"),
    [
        (normal(0.02), 0.02),
        ("functools.partial(<function normal_ at 0x7f00>, mean=0.0, std=0.3)", 0.3),
        ("<function normal_ at 0x7f00>", 1.0),
        (ZEROS, 0.0),
        (trunc(0.02), 0.02),
        (trunc(0.5, cut=3.0), 0.5 * TRUNCATED_AT_3),
        ("<function trunc_normal_ at 0x7f00>", 0.8796256610342398),
        ("functools.partial(<function trunc_normal_ at 0x7f00>, std=0.1, a=-0.1, b=0.2)", None),
        ("functools.partial(<function normal_ at 0x7f00>, mean=0.5, std=0.1)", None),
        ("functools.partial(<function xavier_uniform_ at 0x7f00>)", None),
        ("functools.partial(<function normal_ at 0x7f00>, std=nan)", None),
        ("functools.partial(<function normal_ at 0x7f00>, generator=None)", None),
        ("<function <lambda> at 0x7f00>", None),
        (0.02, None),
    ],
)
def test_a_printed_initializer_tells_its_std_or_nothing(printed: object, std: float | None) -> None:
    """Normals around 0, whole or cut evenly; all else is not known."""
    assert drawn_std(printed) == (None if std is None else pytest.approx(std, rel=1e-6))


def test_an_export_leaves_the_dump_and_hands_over_an_exact_override() -> None:
    """Nothing reads a dump back; with the override every matrix has fan_in^−γ."""
    given_source = source(llama3())
    edited = export("torchtitan", given_source, 0.7)
    assert edited.text == given_source.document.text
    assert edited.report.key is None and edited.hook is not None
    assert all(each.hooked == each.fan_in**-0.7 for each in edited.report.matrices)
    assert "--override.imports critical_init.with_gamma" in edited.hook.usage


@settings(deadline=None)
@given(st.floats(1e-3, 4))
def test_the_override_is_python_with_gamma_in_it_and_nothing_of_ours(gamma: float) -> None:
    """It parses, GAMMA is the float to the last bit, and critical is not imported."""
    hook = framework("torchtitan").hook(read(llama3()), gamma)
    assert hook is not None
    tree = ast.parse(hook.text)
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert ast.literal_eval(constants["GAMMA"]) == gamma
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in imported if name and name.split(".")[0] == "critical"]


def test_a_dump_of_a_hooked_run_reads_as_gamma() -> None:
    """What the override sets is printed as normal_, and read back it is exact."""
    values = llama3()
    for block in model(values)["layers"]:
        block["attention"]["qkv_linear"]["wqkv"] = linear(768, 256, normal(256**-0.6))
        block["attention"]["wo"] = linear(256, 256, normal(256**-0.6))
        for name, fan_in in (("w1", 256), ("w2", 768), ("w3", 256)):
            block["feed_forward"][name]["param_init"]["weight"] = normal(fan_in**-0.6)
    model(values)["lm_head"] = linear(WORDS, 256, normal(256**-0.6))
    model(values)["tok_embeddings"]["param_init"]["weight"] = normal(256**-0.6)
    assert export("torchtitan", source(values), 0.6).report.exact
    assert read(values).depth_scaling is None


def test_only_a_dump_is_claimed() -> None:
    """Neither a Hugging Face configuration nor a registry in Python is."""
    chosen = framework("torchtitan")
    assert chosen.claims(source(llama3()).document)
    assert not chosen.claims(JsonDocument('{"model_type": "llama"}', "config.json"))
    assert not chosen.claims(PythonDocument("model_spec = 1", "config_registry.py"))


def test_a_registry_in_python_is_told_what_to_write() -> None:
    """It is never run, and the sentence names the flag that dumps it."""
    with pytest.raises(ExportError, match=r"registry\.py is Python.*--debug\.save_config_file"):
        framework("torchtitan").read(Source(PythonDocument("x = 1", "registry.py")))


def _with(path: str, value: object) -> dict[str, Any]:
    values = llama3()
    inner: Any = values
    *keys, last = path.split("/")
    for key in keys:
        inner = inner[int(key)] if key.isdecimal() else inner[key]
    inner[int(last) if last.isdecimal() else last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model_spec", {}, "there is no model_spec: write the JSON"),
        ("model_spec/name", "flux", "family 'flux' is not known here: known are llama3"),
        ("model_spec/model/layers", [], "there are no layers"),
        ("model_spec/model/layers/2", None, r"layers\.2\.attention has no matrices"),
        ("model_spec/model/layers/1/feed_forward", None, r"layers\.1\.feed_forward has no matr"),
        ("model_spec/model/tok_embeddings", None, "tok_embeddings has no matrices"),
        ("model_spec/model/mtp_layers", [{}], "mtp_layers"),
        ("model_spec/model/lm_head/in_features", "256", "in_features is the string '256'"),
        ("model_spec/model/lm_head/in_features", 0, "in_features is 0: write a whole number"),
        ("model_spec/model/layers/0/moe", {"hidden_dim": 8, "num_experts": 2}, "no initializers"),
        (
            "model_spec/model/layers/1/feed_forward/w1/param_init/weight",
            "<function kaiming_normal_ at 0x7f00>",
            r"initializer of layers\.1\.feed_forward\.w1\.weight, <function kaiming_normal_",
        ),
        (
            "model_spec/model/layers/0/attention/param_init",
            {"A_log": ZEROS},
            "parameter 'A_log' is not known here",
        ),
        ("model_spec/model/layers/0/attention/wo/rank", 8, "attention"),
    ],
)
def test_what_is_not_known_is_refused_by_name(path: str, value: object, message: str) -> None:
    """One sentence that says where."""
    values = _with(path, value)
    if path.endswith("rank"):
        values["model_spec"]["model"]["layers"][0]["attention"]["wo"]["alpha"] = 16.0
        message = "LoRA adapts a model"
    with pytest.raises(ExportError, match=message) as caught:
        read(values)
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)


PLACES = [
    "model_spec",
    "model_spec/model",
    "model_spec/model/dim",
    "model_spec/model/layers",
    "model_spec/model/layers/0",
    "model_spec/model/layers/0/attention",
    "model_spec/model/layers/0/attention_norm",
    "model_spec/model/layers/0/feed_forward/w1",
    "model_spec/model/layers/0/feed_forward/w1/param_init",
    "model_spec/model/tok_embeddings/embedding_dim",
    "model_spec/model/enable_weight_tying",
    "optimizer",
    "optimizer/param_groups",
]


@settings(deadline=None)
@given(
    st.sampled_from(PLACES),
    st.none() | st.booleans() | st.integers() | st.text() | st.just([1]) | st.just({"a": {}}),
)
def test_any_value_anywhere_is_read_or_refused(path: str, value: object) -> None:
    """No other error than a sentence for the user."""
    try:
        read(_with(path, value))
    except CriticalError as error:
        assert "\n" not in str(error)
