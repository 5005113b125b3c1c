"""Megatron-LM's scripts: the stds that they draw with, γ in them, and the functions of the hook."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from critical.errors import ExportError
from critical.export import export
from critical.frameworks.documents.arguments_document import ArgumentsDocument
from critical.frameworks.framework import Source
from critical.frameworks.megatron import Megatron
from critical.frameworks.megatron_model import expert_layers
from critical.frameworks.opening import recognise
from critical.frameworks.reading import Reading

LLAMA = """\
#!/bin/bash
# Llama 3 8B, after examples/llama
export CUDA_DEVICE_MAX_CONNECTIONS=1
CHECKPOINT_PATH=${1:-"checkpoints/llama3_8b"}
TP_SIZE=2
NUM_LAYERS=32

MODEL_ARGS=(
    --use-mcore-models
    --num-layers $NUM_LAYERS
    --hidden-size 4096
    --ffn-hidden-size 14336
    --num-attention-heads 32
    --group-query-attention
    --num-query-groups 8
    --seq-length 8192
    --max-position-embeddings 8192
    --position-embedding-type rope
    --swiglu
    --init-method-std 0.0134     # 1 / (4 · sqrt of the width, more or less)
    --untie-embeddings-and-output-weights
    --disable-bias-linear
)
TRAINING_ARGS=(
    --lr 0.00015
    --weight-decay 0.1
    --adam-eps 1e-9
    --bf16
)
DATA_ARGS=()
if [[ "$MOCK" == 1 ]]; then
    DATA_ARGS+=("--tokenizer-type NullTokenizer" "--vocab-size 128255")
else
    DATA_ARGS+=("--tokenizer-type HuggingFaceTokenizer" "--vocab-size 128256")
fi

torchrun --nproc_per_node 8 pretrain_gpt.py \\
    ${MODEL_ARGS[@]} ${TRAINING_ARGS[@]} ${DATA_ARGS[@]} \\
    --tensor-model-parallel-size $TP_SIZE
"""
MOE = (
    "python pretrain_gpt.py --num-layers 6 --hidden-size 512 --num-attention-heads 8 "
    "--kv-channels 96 --attention-output-gate --max-position-embeddings 128 --ffn-hidden-size 1024 "
    "--num-experts 4 --moe-ffn-hidden-size 256 --moe-layer-freq '([0]*2+[1]*4)' "
    "--moe-shared-expert-intermediate-size 384 --tokenizer-type NullTokenizer --vocab-size 4095 "
    "--init-method-std=0.01 --embedding-init-method-std=1.0 --qk-layernorm\n"
)
SMALL = "p.py --num-layers 2 --hidden-size 64 --num-attention-heads 4 --max-position-embeddings 32"


def source(text: str) -> Source:
    return Source(ArgumentsDocument(text, "train.sh"))


def read(text: str) -> Reading:
    return Megatron().read(source(text))


def stds(reading: Reading) -> dict[str, float]:
    short = "decoder.layers.*."
    return {each.name.removeprefix(short): each.configured_std for each in reading.matrices}


def hook_of(text: str, gamma: float) -> ModuleType:
    framework = Megatron()
    hook = framework.hook(framework.read(source(text)), gamma)
    assert hook is not None
    module = ModuleType("critical_init")
    exec(compile(hook.text, hook.file_name, "exec"), module.__dict__)
    return module


def test_a_dense_model_has_megatrons_matrices_and_depth_scaling() -> None:
    """Outputs are drawn with 0.0134 / √64; query, key and value are one matrix, so are gates."""
    reading = read(LLAMA)
    by_name = {each.name.removeprefix("decoder.layers.*."): each for each in reading.matrices}
    shapes = {name: (each.count, each.shape, each.fan_in) for name, each in by_name.items()}
    assert shapes == {
        "embedding.word_embeddings.weight": (1, (0, 4096), 4096),
        "self_attention.linear_qkv.weight": (32, (4096 + 2 * 8 * 128, 4096), 4096),
        "self_attention.linear_proj.weight": (32, (4096, 4096), 4096),
        "mlp.linear_fc1.weight": (32, (2 * 14336, 4096), 4096),
        "mlp.linear_fc2.weight": (32, (4096, 14336), 14336),
        "output_layer.weight": (1, (0, 4096), 4096),
    }
    output = {name for name in by_name if "linear_proj" in name or "linear_fc2" in name}
    assert {name: each.configured_std for name, each in by_name.items()} == {
        name: pytest.approx(0.0134 / 8 if name in output else 0.0134) for name in by_name
    }
    assert reading.depth_scaling is not None
    assert reading.depth_scaling.formula == "std / √(2 · 32)"
    assert reading.depth_scaling.remedy is None


def test_norms_and_optimizer_are_read_and_what_is_not_sure_is_remarked() -> None:
    """The vocabulary is on a condition, so that the embedding's rows are not known."""
    reading = read(LLAMA)
    assert not reading.tied
    assert reading.norms is not None and reading.norms.eps.value == 1e-5
    assert reading.optimizer is not None
    assert (reading.optimizer.eps.value, reading.optimizer.weight_decay.value) == (1e-9, 0.1)
    assert reading.optimizer.decays_embeddings is True
    assert any("embedding has is the tokenizer's to say" in each for each in reading.remarks)
    unsure = read(LLAMA.replace("--weight-decay 0.1", "--weight-decay $DECAY"))
    assert unsure.optimizer is None
    assert any("--weight-decay is $DECAY, which the file does not" in r for r in unsure.remarks)


def test_a_default_that_the_environment_can_change_is_remarked_where_it_is_read() -> None:
    """Depth and std come from defaults, which an export leaves; iterations do not matter here."""
    text = (
        "LAYERS=${LAYERS:-24}\ntorchrun pretrain_gpt.py --num-layers $LAYERS --hidden-size 1024 "
        "--num-attention-heads 16 --max-position-embeddings 2048 --train-iters ${ITERS:-1000} "
        "--init-method-std ${STD:-0.01}\n"
    )
    reading = read(text)
    assert reading.depth == 24
    assert reading.std is not None and reading.std.value == 0.01
    told = [each for each in reading.remarks if each.startswith("taken for")]
    assert told == [
        f"taken for --{name} is {value}, the default of ${variable}: a run can set another"
        for name, value, variable in (
            ("num-layers", "24", "LAYERS"),
            ("init-method-std", "0.01", "STD"),
        )
    ]
    with pytest.raises(ExportError, match=r"line 2: --init-method-std has a variable's default"):
        export("megatron", source(text), 0.7)


def test_experts_shared_experts_and_a_head_of_its_own_width_are_listed() -> None:
    """Fan-ins are 8 · 96 = 768, 1024, 256 and 384; the vocabulary is one more, padded to 4096."""
    reading = read(MOE)
    found = {each.name: (each.count, each.shape, each.fan_in) for each in reading.matrices}
    layer = "decoder.layers.*."
    assert found == {
        "embedding.word_embeddings.weight": (1, (4096, 512), 512),
        "embedding.position_embeddings.weight": (1, (128, 512), 512),
        f"{layer}self_attention.linear_qkv.weight": (6, (4 * 768, 512), 512),
        f"{layer}self_attention.linear_proj.weight": (6, (512, 768), 768),
        f"{layer}mlp.linear_fc1.weight": (2, (1024, 512), 512),
        f"{layer}mlp.linear_fc2.weight": (2, (512, 1024), 1024),
        f"{layer}mlp.router.weight": (4, (4, 512), 512),
        f"{layer}mlp.experts.local_experts.*.linear_fc1.weight": (16, (256, 512), 512),
        f"{layer}mlp.experts.local_experts.*.linear_fc2.weight": (16, (512, 256), 256),
        f"{layer}mlp.shared_experts.linear_fc1.weight": (4, (384, 512), 512),
        f"{layer}mlp.shared_experts.linear_fc2.weight": (4, (512, 384), 384),
    }
    drawn = stds(reading)
    assert drawn["embedding.word_embeddings.weight"] == 1.0
    assert drawn["mlp.router.weight"] == 0.01
    assert drawn["mlp.shared_experts.linear_fc2.weight"] == pytest.approx(0.01 / math.sqrt(12))
    assert (reading.attention.qk_norm, reading.attention.gated) == (True, True)
    assert reading.optimizer is not None and reading.optimizer.decays_embeddings is None


def test_what_is_left_out_has_megatrons_defaults() -> None:
    """0.02, and 4 · width or, of SwiGLU, two thirds of it in multiples of 64."""
    reading = read(SMALL)
    assert (reading.std and reading.std.value, reading.std and reading.std.stated) == (0.02, False)
    assert reading.tied
    assert {each.fan_in for each in reading.matrices} == {64, 256}
    gated = read(SMALL.replace("--hidden-size 64", "--hidden-size 768") + " --swiglu")
    assert {each.fan_in for each in gated.matrices} == {768, 2048}
    assert read(SMALL + " --ffn-hidden-size 96").matrices[-1].fan_in == 96


def test_an_export_sets_the_std_and_reads_back_what_stays() -> None:
    """4096^−0.7; outputs keep 1/8 of it, which is 8 and 8 / 3.5^0.7 times too small."""
    edited = export("megatron", source(LLAMA), 0.7)
    assert edited.text == LLAMA.replace("0.0134 ", f"{4096**-0.7!r} ")
    ratios = {each.name.rpartition(".")[0]: each.ratio for each in edited.report.matrices}
    assert ratios["decoder.layers.*.self_attention.linear_qkv"] == pytest.approx(1)
    assert ratios["decoder.layers.*.self_attention.linear_proj"] == pytest.approx(1 / 8)
    assert ratios["decoder.layers.*.mlp.linear_fc2"] == pytest.approx(3.5**0.7 / 8)
    assert ratios["output_layer"] == pytest.approx(1)
    assert edited.report.could_not_express == (
        "Megatron divides the std of linear_proj and linear_fc2 by √(2 · 32), and no option turns "
        "that off",
    )
    assert edited.hook is not None
    assert all(each.hooked == each.wanted for each in edited.report.matrices)


def test_the_embeddings_std_is_set_where_the_script_gives_one() -> None:
    """It is not added: it is the same number, and in some versions it stops weight decay."""
    edited = export("megatron", source(MOE), 0.5)
    std = 512**-0.5
    assert f"--init-method-std={std!r} --embedding-init-method-std={std!r} " in edited.text
    assert "--embedding-init-method-std" not in export("megatron", source(LLAMA), 0.5).text


def test_a_new_std_stands_behind_the_width() -> None:
    """In a script that leaves it at its default."""
    edited = export("megatron", source(SMALL), 0.5)
    assert edited.text == SMALL.replace(
        "--hidden-size 64", "--hidden-size 64 --init-method-std 0.125"
    )


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("--init-method-xavier-uniform", "xavier-uniform draws no std, and fails in megatron-core"),
        ("--no-initialization", "--no-initialization draws nothing: remove it"),
        ("--multi-latent-attention", "--multi-latent-attention builds matrices that are not lis"),
        ("--mtp-num-layers 1", "--mtp-num-layers builds matrices that are not listed here: remove"),
        ("--yaml-cfg a.yaml", "--yaml-cfg takes the model's shape from another file: write it as"),
        ("--spec megatron.core.models x", "--spec names a layer specification that is not read"),
        ("--deepspeed", "--deepspeed is of Megatron-DeepSpeed"),
        ("--swiglu 1", "--swiglu is a flag and takes no value: write it alone"),
        ("--init-method-std 0", "--init-method-std is 0.0: write a number above 0"),
        ("--init-method-std nan", "--init-method-std is the string 'nan': write a number"),
        ("--num-experts 4 --moe-layer-freq [1]*3", r"--moe-layer-freq \[1\]\*3 is no number, nor"),
        ("--num-experts 2 --moe-grouped-gemm --transformer-impl local", "local keeps a layer's e"),
        ("--position-embedding-type relative", "relative is not of GPT: write rope"),
        ("--hidden-size 65", "gives --hidden-size at lines 1 and 1: keep one of them"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_a_sentence(more: str, sentence: str) -> None:
    """It names the file, the option, and what to write."""
    with pytest.raises(ExportError, match=rf"^train\.sh.*{sentence}"):
        read(f"{SMALL} {more}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (SMALL.replace("--num-attention-heads 4", ""), "--num-attention-heads is missing: write"),
        (SMALL.replace("heads 4", "heads 5"), "5 does not divide --hidden-size 64: write a div"),
        (SMALL.replace("64", "$WIDTH"), r"--hidden-size is \$WIDTH, which the file does not set"),
        (SMALL.replace("p.py", "pretrain_bert.py"), "pretrain_bert.py builds matrices that are n"),
        (SMALL.replace("--max-position-embeddings 32", ""), "--max-position-embeddings is missing"),
    ],
)  # fmt: skip
def test_a_shape_that_is_not_told_is_refused(text: str, sentence: str) -> None:
    """Nothing is guessed of what decides a matrix."""
    with pytest.raises(ExportError, match=sentence):
        read(text)


@pytest.mark.parametrize(
    ("frequency", "layers"),
    [
        (1, 6), (2, 3), (4, 2), ("4", 2), ("([0]*3+[1]*3)", 3), ("([0]+[1]*2)*2", 4),
        ([0, 1, 1, 0, 1, 1], 4), ("[1]*5", None), ("[2]*6", None), ("__import__('os')", None),
        ("[1]*10**9", None), ("([1]*6)*1000000000", None), ("(" * 9000, None), (0, None),
        (True, None), ("1+" * 4000 + "1", None),
    ],
)  # fmt: skip
def test_the_layers_with_experts_are_counted(frequency: object, layers: int | None) -> None:
    """Every Nth from the first on, or a list; nothing is evaluated but lists of numbers."""
    assert expert_layers(frequency, 6) == layers


def test_a_script_is_recognised_by_its_options(tmp_path: Path) -> None:
    """Also without a suffix that tells."""
    path = tmp_path / "train.slurm"
    path.write_text(LLAMA, encoding="utf-8")
    from critical.frameworks import FRAMEWORKS

    framework, _ = recognise(path, tuple(FRAMEWORKS.values()))
    assert framework.name == "megatron"
    assert not Megatron().claims(ArgumentsDocument("ls --hidden-size 3", "a.sh"))


def test_the_hook_draws_whole_matrices_and_shards_by_the_whole_fan_in() -> None:
    """On a CPU Megatron draws the whole of a row-parallel matrix, on a GPU a shard of it."""
    hook = hook_of(MOE, 0.7)
    torch.manual_seed(0)
    for fan_in in (768, 1024, 384):
        whole = hook.output_layer_init_method(torch.empty(512, fan_in), sizes=(4, 1))
        assert float(whole.std()) == pytest.approx(fan_in**-0.7, rel=0.01)
    for fan_in in (768, 1024, 256, 384):
        shard = torch.empty(512, fan_in // 4, device="meta")
        assert hook._fan_in(shard, (4, 4)) == fan_in
    assert hook._fan_in(torch.empty(512, 192, device="meta"), (2, 1)) == 384
    assert float(hook.init_method(torch.empty(4096, 512)).std()) == pytest.approx(
        512**-0.7, rel=0.01
    )
    assert float(hook.embedding_init_method(torch.empty(4096, 512)).std()) == pytest.approx(
        512**-0.7, rel=0.01
    )
    assert hook.init_method(torch.zeros(4096)).std() == pytest.approx(512**-0.7, rel=0.1)


def test_the_hook_raises_where_a_shape_fits_no_matrix_or_two() -> None:
    """1024 over 4 and an expert's 256 over 1 are both 256 columns on a GPU."""
    hook = hook_of(MOE.replace("--kv-channels 96 ", ""), 0.7)
    with pytest.raises(RuntimeError, match=r"\(512, 256\) is not one of .*, or can be two of them"):
        hook._fan_in(torch.empty(512, 256, device="meta"), (4, 1))
    assert hook._fan_in(torch.empty(512, 256, device="meta"), (4, 4)) == 1024
    with pytest.raises(
        RuntimeError, match=r"\(512, 100\) is not one of self_attention.linear_proj"
    ):
        hook._fan_in(torch.empty(512, 100), (1, 1))
    with pytest.raises(RuntimeError, match=r"\(512, 1024\) does not read a residual stream of 512"):
        hook.init_method(torch.empty(512, 1024))


def test_the_hook_gives_its_functions_to_a_configuration() -> None:
    """They take the place of what TransformerConfig makes of the stds."""
    hook = hook_of(SMALL, 0.7)
    config = SimpleNamespace(init_method=None)
    hook.apply(config)
    assert config.init_method is hook.init_method
    assert config.output_layer_init_method is hook.output_layer_init_method
    assert config.embedding_init_method is hook.embedding_init_method


def test_an_edit_is_read_as_the_export_says() -> None:
    """Reading the edited text again is what the report is made of."""
    text = export("megatron", source(LLAMA), 0.6).text
    again = replace(read(text), remarks=())
    assert again.std is not None and again.std.value == 4096**-0.6
    assert again.matrices[2].configured_std == pytest.approx(4096**-0.6 / 8)
