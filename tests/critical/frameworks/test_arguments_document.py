"""Shell scripts and argument files: what their options say, and edits that touch nothing else."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical.errors import ExportError
from critical.frameworks.documents.arguments_document import ArgumentsDocument

Within = Callable[[float], AbstractContextManager[None]]

SCRIPT = r"""#!/bin/bash
#SBATCH --nodes=4
# Trains the "857m" model; don't run it twice.
export CUDA_DEVICE_MAX_CONNECTIONS=1
source ~/.bashrc

GPUS_PER_NODE=8
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
DIR="$( cd "$( dirname "${BASH_SOURCE[0]}" )" && pwd )"
WORLD_SIZE=$(($GPUS_PER_NODE*$NNODES))
HIDDEN=2048            # width
CHECKPOINT_PATH=$1 #<Specify path>

DISTRIBUTED_ARGS=(
    --nproc_per_node $GPUS_PER_NODE
    --nnodes 1 # one
)

GPT_MODEL_ARGS=(
    --num-layers 24
    --hidden-size ${HIDDEN}   # see above
    --num-attention-heads "16"
    # --untie-embeddings-and-output-weights
    --swiglu
    --init-method-std 0.02
    --rampup-batch-size 16 16 5859375
    --moe-layer-freq "([0]*1+[1]*23)"
)
MOE_ARGS=(
    --num-experts 8
)
if [ "$LONG" = 1 ]; then
    GPT_MODEL_ARGS+=(--seq-length 8192)
fi
[[ -n $X && -f there ]] && EXTRA="--qk-layernorm"

cat <<EOT > ds.json
{ "don't": "--hidden-size 1" }
EOT

TRAIN_ARGS=" \
  --lr 1e-4 \
  --weight-decay $DECAY \
"

torchrun ${DISTRIBUTED_ARGS[@]} pretrain_gpt.py \
    ${GPT_MODEL_ARGS[@]} $EXTRA \
    $TRAIN_ARGS --bf16 ${MORE_ARGS[@]} "$@" 2>&1 | tee log.txt
"""


def document(text: str) -> ArgumentsDocument:
    return ArgumentsDocument(text, "train.sh")


def test_a_script_is_read_with_its_arrays_quotes_variables_and_comments() -> None:
    """Texts, lists of several words, and True for a flag; what is commented out is not there."""
    values = document(SCRIPT).values
    assert values == {
        "nproc_per_node": "8",
        "nnodes": "1",
        "num-layers": "24",
        "hidden-size": "2048",
        "num-attention-heads": "16",
        "swiglu": True,
        "init-method-std": "0.02",
        "rampup-batch-size": ["16", "16", "5859375"],
        "moe-layer-freq": "([0]*1+[1]*23)",
        "lr": "1e-4",
        "bf16": True,
    }


def test_what_may_not_hold_is_unreadable_with_its_line() -> None:
    """An option on a condition, and a variable that the file does not set, have reasons."""
    unreadable = document(SCRIPT).unreadable
    assert unreadable == {
        "seq-length": "train.sh, line 33: --seq-length holds on a condition only: write it where "
        "it always holds",
        "qk-layernorm": "train.sh, line 35: --qk-layernorm holds on a condition only: write it "
        "where it always holds",
        "weight-decay": "train.sh, line 43: --weight-decay is $DECAY, which the file does not "
        "set: write the value itself there",
    }


def test_options_from_elsewhere_and_in_unused_arrays_are_remarked() -> None:
    """The file's own variables are known; $@ and arrays of others are not."""
    assert document(SCRIPT).options.remarks == (
        "the options in MOE_ARGS are not read: nothing in train.sh uses MOE_ARGS",
        "options that come from ${MORE_ARGS[@]}, $@ are not seen",
    )


def test_an_edit_touches_the_value_alone() -> None:
    """Every other byte stays, comments and quotes too."""
    edited = document(SCRIPT).edited({("init-method-std",): 0.0048})
    assert edited == SCRIPT.replace("--init-method-std 0.02", "--init-method-std 0.0048")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A=(\n  --hidden-size 64 # wide\n)\n", "A=(\n  --hidden-size 64 # wide\n  --x 0.5\n)\n"),
        ("p \\\n --hidden-size 64 \\\n --b\n", "p \\\n --hidden-size 64 \\\n --x 0.5 \\\n --b\n"),
        ("p \\\n --hidden-size 64\necho --x\n", "p \\\n --hidden-size 64 --x 0.5\necho --x\n"),
        ("A='\n  --hidden-size 64\n'\n", "A='\n  --hidden-size 64\n  --x 0.5\n'\n"),
        ("p.py --a 1 --hidden-size=64 --b", "p.py --a 1 --hidden-size=64 --x=0.5 --b"),
        ("--hidden-size 64\r\n--b\r\n", "--hidden-size 64\r\n--x 0.5\r\n--b\r\n"),
        ("W=64\np.py --hidden-size $W --b", "W=64\np.py --hidden-size $W --x 0.5 --b"),
    ],
)  # fmt: skip
def test_a_new_option_stands_behind_the_width_in_its_style(before: str, after: str) -> None:
    """On a line of its own where the width has one, unless that would end the command."""
    edited = document(before).edited({("x",): 0.5})
    assert edited == after
    assert document(edited).values["x"] == "0.5"


def test_a_variable_that_is_used_once_is_edited_where_it_is_set() -> None:
    """The option keeps the variable."""
    text = 'STD="0.02"\npretrain_gpt.py --hidden-size 64 --init-method-std $STD\n'
    edited = document(text).edited({("init-method-std",): 0.0048})
    assert edited == "STD=0.0048\npretrain_gpt.py --hidden-size 64 --init-method-std $STD\n"


@pytest.mark.parametrize(
    "text",
    [
        "W=${W:-64}\np.py --hidden-size $W",
        'export W="${W-64}"\np.py --hidden-size "${W}"',
        "p.py --hidden-size ${WIDTH:-64}",
        "WIDTH=${D:=64}\np.py --hidden-size=$WIDTH",
        "p.py --hidden-size ${2:-64}",
    ],
)
def test_a_variables_default_is_read_and_not_edited(text: str) -> None:
    """It holds unless a run sets another, which is said; an edit would take that away."""
    found = document(text)
    assert found.values == {"hidden-size": "64"}
    assert re.fullmatch(
        r"taken for --hidden-size is 64, the default of \$(W|WIDTH|D|2): a run can set another",
        found.options.defaults["hidden-size"],
    )
    with pytest.raises(ExportError, match=r"--hidden-size has a variable's default, and a run can"):
        found.edited({("hidden-size",): 2})


def test_a_variable_that_is_used_elsewhere_is_not_edited() -> None:
    """What else it would change is not known."""
    text = "W=0.02\np.py --hidden-size 64 --init-method-std $W --x $W\n"
    with pytest.raises(ExportError, match=r"line 2: --init-method-std is \$W, which something els"):
        document(text).edited({("init-method-std",): 0.0048})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("W=1\nW=2\np --hidden-size $W", r"line 3: --hidden-size is \$W, which lines 1 and 2 set"),
        ("W=$(nproc)\np.py --hidden-size $W", r"\$W, which only a shell can work out"),
        ("W=${W:-64}\nW=1\np.py --hidden-size $W", r"\$W, which lines 1 and 2 set"),
        ("p.py --hidden-size ${W:-64}\nW=1", r"\$\{W:-64\}, and W is set at line 2 too"),
        ("p.py --hidden-size ${W:-$V}", r"\$\{W:-\$V\}, which only a shell can work out"),
        ("p.py --hidden-size $((8 * 8))", r"which only a shell can work out"),
        ("if a; then W=${W:-64}; fi\np.py --hidden-size $W", r"line 1 does not set plainly"),
        ("for W in 1 2; do p.py --hidden-size $W; done", r"which line 1 does not set plainly"),
        ("p.py --hidden-size $W\nW=1\n", r"which line 2 does not set plainly before"),
        ("A=$B\nB=$A\np.py --hidden-size $A", r"\$A, which line 2 does not set plainly before"),
        ("p.py --hidden-size 1 --b\nq.py --hidden-size 2", r"--hidden-size at lines 1 and 2: keep"),
        ("a || p.py --hidden-size 1", r"line 1: --hidden-size holds on a condition only"),
        ("case $M in\n7B) S='--hidden-size 1';;\nesac\np.py $S", r"line 2: --hidden-size holds on"),
        ("S=(--hidden-size 1)\nif a; then p.py ${S[@]}; fi", r"in S, which is used on a condit"),
        ("S='--hidden-size 1'\nS='--b 2'\np.py $S", r"stands in S, which lines 1 and 2 set"),
        ("p.py a'--hidden-size 1'b", r"line 1, has --hidden-size in a text that is not read"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_sure_is_refused_when_it_is_edited(text: str, sentence: str) -> None:
    """The reason names the line; nothing is guessed."""
    found = document(text)
    assert "hidden-size" not in found.values
    assert re.search(sentence, found.unreadable["hidden-size"])
    with pytest.raises(ExportError, match=sentence):
        found.edited({("hidden-size",): 2})


@pytest.mark.parametrize("text", ["p.py 'a", 'p.py "$(a"', "p.py ${a", "\n\n`a"])
def test_an_open_quote_is_told_with_its_line(text: str) -> None:
    """No option behind it could be told from text."""
    line = text.count("\n") + 1
    with pytest.raises(ExportError, match=rf"line {line}, opens a quote or a parenthesis"):
        _ = document(text).values


def test_a_new_option_needs_a_width_to_stand_behind() -> None:
    """Where else it would be an option is not known."""
    with pytest.raises(ExportError, match=r"train.sh gives no --hidden-size N: write it"):
        document("p.py --num-layers 2").edited({("x",): 1.0})


def test_a_flag_may_have_unknown_options_behind_it() -> None:
    """What $EXTRA holds is not known, but no value of a flag."""
    found = document("p.py --hidden-size 64 --swiglu $EXTRA")
    assert "swiglu" in found.options.flags
    assert "hidden-size" not in found.options.flags


_NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
_VALUES = st.text(alphabet="abz019._-/: =\"'$`\\#;&|()<>*", min_size=1).filter(
    lambda text: not text.startswith("--")
)


@given(options=st.dictionaries(_NAMES, _VALUES, min_size=1, max_size=8), style=st.integers(0, 2))
def test_quoted_values_are_read_as_a_shell_reads_them(options: dict[str, str], style: int) -> None:
    """Options quoted by the standard library come back, in a command, an array or by lines."""
    lines = [f"--{name} {shlex.quote(value)}" for name, value in options.items()]
    text = [" \\\n  ".join(["p.py", *lines]), "A=(\n" + "\n".join(lines) + "\n)", "\n".join(lines)]
    assert document(text[style]).values == options


@given(
    text=st.text(alphabet="ab1 -=$\"'`\\#;&|()<>{}\n[@]", max_size=60),
    value=st.floats(1e-6, 1.0),
)
@settings(max_examples=300)
def test_any_text_is_read_or_refused_and_an_edit_reads_back(text: str, value: float) -> None:
    """Nothing but ExportError is raised; the edited option is the only one that differs."""
    found = document(f"{text}\np.py --hidden-size 64 --std 0.02\n")
    try:
        before = dict(found.values)
        edited = found.edited({("std",): value})
    except ExportError:
        return
    assert document(edited).values == {**before, "std": repr(value)}
    assert edited.replace(repr(value), "") == found.text.replace("0.02", "")


@pytest.mark.parametrize(
    "part",
    ['"', "$(", '"$(', "\\", "a <<E\n", "--a ", "x=(", "((a", "' ", "` ", "if ", "$A", "--a $X\n"],
)
def test_hostile_text_takes_time_in_proportion(part: str, within: Within) -> None:
    """Half a megabyte of anything is read or refused within seconds; more is refused at once."""
    for size in (150_000, 600_000):
        with within(10), contextlib.suppress(ExportError):
            found = document(part * (size // len(part)))
            _ = found.values, found.unreadable, found.options.remarks
