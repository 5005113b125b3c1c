"""The modules handed to users: literals only, and every matrix drawn by its own fan-in."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.nn.utils import parametrizations
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers.pytorch_utils import Conv1D

from critical.frameworks.hooks import filled, module_hook

GAMMA = 0.7
TEMPLATES = ("module", "llm_foundry")


def hook(gamma: float = GAMMA, extension: str | None = None) -> Any:
    """Return the module that a user gets, imported."""
    made = module_hook(gamma, "call it", extension=extension)
    module = ModuleType("critical_init")
    exec(compile(made.text, made.file_name, "exec"), module.__dict__)
    return module


def std(weight: torch.Tensor) -> float:
    """Return the empirical std."""
    return float(weight.detach().double().std())


def by_gamma(weight: torch.Tensor, fan_in: int) -> bool:
    """Return whether a matrix has the std fan_in^−γ, within four standard errors."""
    tolerance = max(4 / math.sqrt(2 * weight.numel()), 0.005)
    return std(weight) == pytest.approx(fan_in**-GAMMA, rel=tolerance)


@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=25, deadline=None)
@given(gamma=st.floats(allow_nan=False, allow_infinity=False))
def test_any_gamma_makes_a_module_that_holds_it(template: str, gamma: float) -> None:
    """The text parses, and its GAMMA is the very float."""
    tree = ast.parse(filled(template, {"GAMMA": gamma}))
    assigned = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert ast.literal_eval(assigned["GAMMA"]) == gamma


@settings(max_examples=20, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )
)
def test_no_value_becomes_code(value: object) -> None:
    """Whatever a configuration holds, the line that it fills is one assignment of that value."""
    if "inf" in repr(value) and not isinstance(value, str):
        return  # Told apart below: no literal of Python's is infinite.
    tree = ast.parse(filled("module", {"GAMMA": value}))
    assert len(tree.body) == len(ast.parse(filled("module", {"GAMMA": 0.5})).body)
    found = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GAMMA"
    ]
    assert [ast.literal_eval(each) for each in found] == [value]


@pytest.mark.parametrize("value", [object(), math.inf, math.nan, int])
def test_what_is_no_literal_is_refused(value: object) -> None:
    """Repr of an object is no code, so that it never gets into a file."""
    with pytest.raises(AssertionError, match=r"GAMMA .* is no literal"):
        filled("module", {"GAMMA": value})


def test_a_constant_that_a_template_lacks_is_refused() -> None:
    """A template that is renamed under its filler fails at once."""
    with pytest.raises(AssertionError, match=r"module has 0 lines that set NOT_THERE"):
        filled("module", {"NOT_THERE": 1})


@pytest.mark.parametrize("extension", [None, "axolotl"])
def test_the_module_imports_nothing_of_ours(extension: str | None) -> None:
    """It runs where only torch is: whatever else it imports, it imports inside a function."""
    text = module_hook(GAMMA, "call it", extension=extension).text
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.parse(text).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert "critical." not in text
    assert {name.partition(".")[0] for name in imported} <= {
        *("__future__", "argparse", "collections", "functools", "math", "os", "pathlib"),
        *("typing", "warnings", "torch"),
    }


def test_a_hook_names_its_leaves_and_usage() -> None:
    """What the caller says is handed on."""
    made = module_hook(GAMMA, "call it", ("a.weight",))
    assert (made.file_name, made.usage, made.leaves) == (
        "critical_init.py",
        "call it",
        ("a.weight",),
    )


class Tied(nn.Module):
    """A head that is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(300, 64)
        self.head = nn.Linear(64, 300, bias=False)
        self.head.weight = self.embedding.weight


def test_a_tied_matrix_is_drawn_once() -> None:
    """Drawing it twice would only cost time, but under one seed the rest would then differ."""
    tied, plain = Tied(), nn.Embedding(300, 64)
    torch.manual_seed(5)
    assert hook().initialize(tied) == []
    after = torch.get_rng_state()
    torch.manual_seed(5)
    hook().initialize(plain)
    assert torch.equal(tied.head.weight, plain.weight)
    assert torch.equal(after, torch.get_rng_state())


def test_torchs_own_layers_are_known() -> None:
    """Each by its input dimension; biases, gains and one-dimensional parameters stay."""
    model: Any = nn.ModuleDict(
        {
            "linear": nn.Linear(96, 40),
            "embedding": nn.Embedding(200, 48),
            "bag": nn.EmbeddingBag(200, 24),
            "conv": nn.Conv1d(16, 32, kernel_size=5, groups=4),
            "image": nn.Conv2d(3, 64, kernel_size=7),
            "one channel": nn.Conv1d(1, 512, kernel_size=8),
            "attention": nn.MultiheadAttention(64, 4),
            "cross": nn.MultiheadAttention(64, 4, kdim=32, vdim=16, add_bias_kv=True),
            "norm": nn.LayerNorm(64),
        }
    )
    fan_ins = {
        "linear.weight": 96,
        "embedding.weight": 48,
        "bag.weight": 24,
        "conv.weight": 4 * 5,
        "one channel.weight": 8,
        "image.weight": 3 * 49,
        "attention.in_proj_weight": 64,
        "attention.out_proj.weight": 64,
        "cross.q_proj_weight": 64,
        "cross.k_proj_weight": 32,
        "cross.v_proj_weight": 16,
        "cross.out_proj.weight": 64,
    }
    before = {name: each.clone() for name, each in model.named_parameters()}
    assert hook().initialize(model) == []
    for name, parameter in model.named_parameters():
        if name in fan_ins:
            assert by_gamma(parameter, fan_ins[name]), name
        else:
            assert torch.equal(parameter, before[name]), name


def test_depthwise_convolutions_are_left_and_named() -> None:
    """They filter channel by channel, as those of state-space layers: four numbers sum nothing."""
    model: Any = nn.Sequential(nn.Conv1d(32, 32, kernel_size=4, groups=32), nn.Linear(32, 64))
    before = model[0].weight.clone()
    with pytest.warns(UserWarning, match=r"critical_init left 1 as they were: 0\.weight"):
        assert hook().initialize(model) == ["0.weight"]
    assert torch.equal(model[0].weight, before)
    assert hook().initialize(model, fan_in={"0.weight": 4}) == []


class GatedLinear(nn.Linear):
    """A Linear of another library's, as te.Linear or fla's."""


class TensorParallelRowLinear(nn.Linear):
    """As nanotron's, which holds its shard of the inputs."""

    world_size = 4


def test_subclasses_and_shards_are_known() -> None:
    """A subclass is what it extends; nanotron's row-parallel layer has a quarter of its fan-in."""
    model: Any = nn.Sequential(GatedLinear(64, 256), TensorParallelRowLinear(64, 256))
    assert hook().initialize(model) == []
    assert by_gamma(model[0].weight, 64)
    assert by_gamma(model[1].weight, 256)


class Own(nn.Module):
    """Parameters that belong to no layer that is known."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.ones(64, 96))
        self.relative_bias = nn.Parameter(torch.ones(8, 8))
        self.gain = nn.Parameter(torch.ones(96))


def test_what_is_not_known_is_warned_of_and_can_be_told() -> None:
    """It stays as it was until its fan-in is given by name; biases and gains are no matrices."""
    model: Any = nn.Sequential(nn.Linear(96, 96), Own())
    with pytest.warns(UserWarning, match=r"left 1 as they were: 1\.mixing$"):
        assert hook().initialize(model) == ["1.mixing"]
    assert torch.equal(model[1].mixing, torch.ones(64, 96))
    assert hook().initialize(model, fan_in={"1.mixing": 64}) == []
    assert by_gamma(model[1].mixing, 64)
    assert torch.equal(model[1].gain, torch.ones(96))


class Router(nn.Module):
    """A class of one's own that is called like Hugging Face's, but stored the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(96, 4))


def test_a_name_alone_is_no_proof() -> None:
    """A router is known by its width too, a Conv1D by its nf: else nothing is guessed."""
    with pytest.warns(UserWarning, match=r"left 1 as they were: 0\.weight$"):
        hook().initialize(nn.Sequential(Router()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_drawn_as_well(dtype: torch.dtype) -> None:
    """Half precision holds a std of some thousandths well within the tolerance."""
    model = nn.Linear(512, 512, dtype=dtype)
    hook().initialize(model)
    assert by_gamma(model.weight, 512)


def test_a_quantized_matrix_is_left_and_told() -> None:
    """No normal number goes into eight bits."""
    model = nn.Linear(32, 32, bias=False)
    model.weight = nn.Parameter(torch.ones(32, 32, dtype=torch.int8), requires_grad=False)
    with pytest.warns(UserWarning, match=r"left 1 as they were: weight$"):
        assert hook().initialize(model) == ["weight"]


def test_a_padding_row_of_zeros_stays_and_another_is_drawn() -> None:
    """A row that was zero belongs to padding; one that was drawn is a token like the others."""
    model: Any = nn.ModuleList(
        [nn.Embedding(300, 64, padding_idx=7), nn.Embedding(300, 64, padding_idx=7)]
    )
    with torch.no_grad():
        model[1].weight[7] = 1.0
    hook().initialize(model)
    assert not model[0].weight[7].any()
    assert int(model[0].weight.any(dim=1).sum()) == 299
    assert 0 < std(model[1].weight[7]) < 0.5


def test_a_tied_padding_row_stays_though_the_head_comes_first() -> None:
    """The head is drawn before the embedding that knows of the padding is reached."""
    head, embedding = nn.Linear(64, 300, bias=False), nn.Embedding(300, 64, padding_idx=0)
    head.weight = embedding.weight
    hook().initialize(nn.ModuleList([head, embedding]))
    assert not embedding.weight[0].any()
    assert by_gamma(embedding.weight[1:], 64)


def test_the_meta_device_is_refused() -> None:
    """Drawing there would do nothing, and nobody would notice."""
    with torch.device("meta"):
        model: Any = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(RuntimeError, match=r"^0\.weight holds no numbers yet: .*after to_empty"):
        hook().initialize(model)


def test_a_layer_that_is_not_built_yet_is_refused() -> None:
    """A lazy layer does not know its fan-in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of lazy modules being new.
        model = nn.LazyLinear(8)
    with pytest.raises(RuntimeError, match=r"^weight holds no numbers yet"):
        hook().initialize(model)


@pytest.mark.parametrize("shard", [torch.zeros(0), torch.zeros(24)])
def test_a_shard_is_refused(shard: torch.Tensor) -> None:
    """FSDP1 and DeepSpeed leave one-dimensional pieces, or nothing, in a parameter's place."""
    model: Any = nn.Sequential(nn.Linear(8, 8), nn.Embedding(4, 8, padding_idx=0))
    for layer in model:
        layer.weight = nn.Parameter(shard)
    with pytest.raises(RuntimeError, match=r"^0\.weight is a shard .*FSDP1.*summon_full_params$"):
        hook().initialize(model)


def test_weight_norm_is_drawn_through() -> None:
    """What the layer computes has the std, not what it is computed from."""
    model = parametrizations.weight_norm(nn.Linear(128, 256))
    assert hook().initialize(model) == []
    assert by_gamma(model.weight, 128)


def test_a_parametrization_that_changes_the_draw_is_told() -> None:
    """Spectral norm makes any matrix's largest singular value 1: γ cannot be seen through it."""
    model = parametrizations.spectral_norm(nn.Linear(64, 64))
    with pytest.warns(
        UserWarning, match=r"left 1 as they were: parametrizations\.weight\.original"
    ):
        hook().initialize(model)


@pytest.fixture
def mesh(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A mesh of CPUs: this process alone, or the first of as many as are asked for."""
    size = getattr(request, "param", 1)
    store = FakeStore() if size > 1 else dist.HashStore()  # type: ignore[attr-defined]
    backend = "fake" if size > 1 else "gloo"
    dist.init_process_group(backend, rank=0, world_size=size, store=store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of random numbers on a mesh of CPUs.
        yield init_device_mesh("cpu", (size,))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("placement", [Shard(0), Shard(1), Replicate()])
def test_a_dtensor_is_drawn_by_the_whole_matrixs_fan_in(mesh: Any, placement: Placement) -> None:
    """Its layer's in_features, and the padding row of an embedding that stays zero."""
    model: Any = nn.ModuleList([nn.Linear(128, 192), nn.Embedding(300, 96, padding_idx=3)])
    for layer in model:
        layer.weight = nn.Parameter(distribute_tensor(layer.weight.detach(), mesh, [placement]))
    assert hook().initialize(model) == []
    linear, embedding = model[0].weight, model[1].weight
    assert isinstance(linear, DTensor)
    assert by_gamma(linear.full_tensor(), 128)
    whole = embedding.full_tensor()
    assert not whole[3].any()
    assert by_gamma(torch.cat([whole[:3], whole[4:]]), 96)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_under_fsdp2_is_drawn_from_the_meta_device(mesh: Any) -> None:
    """As torchtitan and flame do it: sharded on meta, made real, drawn; classes are renamed."""
    with torch.device("meta"):
        model: Any = nn.Sequential(Conv1D(256, 128), nn.Linear(128, 192, bias=False))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.to_empty(device="cpu")
    assert type(model[0]).__name__ == "FSDPConv1D"
    assert hook().initialize(model) == []
    assert by_gamma(model[0].weight.full_tensor(), 128)
    assert by_gamma(model[1].weight.full_tensor(), 128)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("mesh", [2], indirect=True)
def test_shards_on_several_cpus_are_refused(mesh: Any) -> None:
    """There torch draws by each process's own seed: shards alike, or replicas that differ."""
    layer = nn.Linear(128, 192)
    layer.weight = nn.Parameter(distribute_tensor(layer.weight.detach(), mesh, [Shard(0)]))
    with pytest.raises(RuntimeError, match=r"^0\.weight is spread over processes on the CPU"):
        hook().initialize(nn.Sequential(layer))


class Experts(nn.Module):
    """A stack of experts as Hugging Face stores it."""

    def __init__(self, shape: tuple[int, int], *, is_transposed: bool | None) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.zeros(4, *shape))
        self.down_proj = nn.Parameter(torch.zeros(4, shape[1], shape[0]))
        if is_transposed is not None:
            self.is_transposed = is_transposed
        else:
            self.hidden_size = 64


@pytest.mark.parametrize(
    ("shape", "is_transposed", "gate_up", "down"),
    [
        ((160, 64), False, 64, 160),  # (out, in), as qwen3_moe
        ((64, 160), True, 64, 160),  # (in, out), as gpt_oss
        ((64, 160), None, 64, 160),  # told by the width alone, as llama4
        ((160, 64), None, 64, 160),
    ],
)
def test_stacks_of_experts_are_drawn_by_the_dimension_that_they_read(
    shape: tuple[int, int], is_transposed: bool | None, gate_up: int, down: int
) -> None:
    """However they are stored."""
    model = Experts(shape, is_transposed=is_transposed)
    assert hook().initialize(model) == []
    assert by_gamma(model.gate_up_proj, gate_up)
    assert by_gamma(model.down_proj, down)


def test_a_framework_that_draws_late_is_followed() -> None:
    """after() leaves the method as it was, and draws once it is done."""

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(256, 256)

        def draw(self, value: float) -> str:
            """Set all to a value."""
            nn.init.constant_(self.linear.weight, value)
            return "drawn"

    hook().after(Late, "draw")
    model = Late()
    assert model.draw(3.0) == "drawn"
    assert Late.draw.__doc__ == "Set all to a value."
    assert by_gamma(model.linear.weight, 256)


def test_axolotls_plugin_draws_the_model_that_is_built() -> None:
    """It stands in the same file, before the part that runs as a script."""
    module = hook(extension="axolotl")
    model = nn.Linear(256, 256)
    module.AxolotlPlugin().post_model_build(None, model)
    assert by_gamma(model.weight, 256)
    text = module_hook(GAMMA, "call it", extension="axolotl").text
    assert text.index("class AxolotlPlugin") < text.index('if __name__ == "__main__"')
