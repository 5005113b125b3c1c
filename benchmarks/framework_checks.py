"""What an export promises, against the models that the frameworks themselves build and draw.

    python benchmarks/framework_checks.py [megatron torchtitan olmo-core litgpt] [--work-dir DIR]

For each framework: a virtual environment with what the first line of framework_checks/check_NAME.py
asks for (made once, used again), a small configuration (width 512, feed-forward 1536, 4 blocks, 8
heads), an export of it at γ 0.7, one at γ 0.5 as a control, and the configuration as it is, drawn
with the framework's own depth scaling, as another. The script builds the models on the CPU and
measures every matrix as edited and with the hook; the last result is kept in
data/framework_checks.json.

Each environment takes 1 to 3 GB. A CPU wheel of torch is meant: point pip at one, as with
PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu, or gigabytes of CUDA are fetched.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from critical.export import export
from critical.export.bundle import REPORT, write_bundle
from critical.export.report import reported
from critical.frameworks import Source, framework
from critical.frameworks.documents.document import Path as KeyPath
from critical.frameworks.documents.document import Scalar
from critical.frameworks.opening import open_source

_HERE = Path(__file__).resolve().parent
RESULT = _HERE.parent / "data" / "framework_checks.json"
_GAMMAS = (0.7, 0.5)
_MEGATRON = """\
# A small GPT for Megatron-LM's pretrain_gpt.py.
--num-layers 4
--hidden-size 512
--ffn-hidden-size 1536
--num-attention-heads 8
--swiglu
--disable-bias-linear
--normalization RMSNorm
--position-embedding-type rope
--untie-embeddings-and-output-weights
--seq-length 128
--max-position-embeddings 128
--vocab-size 4096
--init-method-std 0.02
"""
_LITGPT = """\
# litgpt pretrain --config pretrain.yaml
model_name: small
model_config:
  name: small
  block_size: 128
  vocab_size: 4000
  padding_multiple: 512   # padded to 4096
  n_layer: 4
  n_head: 8
  n_query_groups: 2
  n_embd: 512
  intermediate_size: 1536
  mlp_class_name: LLaMAMLP
  norm_class_name: RMSNorm
  parallel_residual: false
  bias: false
out_dir: out/small
train:
  global_batch_size: 64
  max_tokens: 1000000
  tie_embeddings: false
optimizer:
  class_path: torch.optim.AdamW
  init_args:
    lr: 4e-4
    weight_decay: 0.1
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One framework's configuration.

    Attributes:
        name: The framework's; its script's has ``_`` for ``-``.
        file_name: Of the configuration.
        text: The configuration; None where the script writes it with ``--configuration``.
        depth_scaled: What makes it one with depth scaling, where it has none as it is.
    """

    name: str
    file_name: str
    text: str | None
    depth_scaled: Mapping[KeyPath, Scalar] = field(default_factory=dict)

    @property
    def script(self) -> Path:
        """Return the script that builds this framework's models."""
        return _HERE / "framework_checks" / f"check_{self.name.replace('-', '_')}.py"


CHECKS = {
    each.name: each
    for each in (
        Check("megatron", "arguments.args", _MEGATRON),
        Check("torchtitan", "config.json", None),
        Check("olmo-core", "config.json", None, {("model", "init_method"): "llama_depth"}),
        Check("litgpt", "pretrain.yaml", _LITGPT),
    )
}


def run(check: Check, work: Path) -> dict[str, Any]:
    """Check one framework in its environment; its rows by case and matrix, and the versions."""
    requirements = _requirements(check.script)
    python = environment(work / f"venv-{check.name}", requirements)
    folder = work / check.name
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / check.file_name
    if check.text is None:
        _call(python, check.script, "--configuration", str(config))
    else:
        config.write_text(check.text, encoding="utf-8")
    source = open_source(config, framework(check.name))
    bundles = {f"gamma {gamma}": _exported(source, gamma, folder) for gamma in _GAMMAS}
    bundles["depth-scaled default"] = _as_it_is(source, check, folder)
    cases = {}
    for case, bundle in bundles.items():
        out = folder / f"{bundle.name}.json"
        _call(python, check.script, str(bundle), str(out))
        cases[case] = json.loads(out.read_text("utf-8"))
    return {
        "ok": all(row["ok"] for rows in cases.values() for row in rows.values()),
        "versions": _versions(python, requirements),
        "cases": cases,
    }


def environment(folder: Path, requirements: list[str]) -> Path:
    """Return the Python of a virtual environment with these requirements, made where it is not."""
    python, made = folder / "bin" / "python", folder / "requirements.sha256"
    digest = hashlib.sha256("\n".join(requirements).encode()).hexdigest()
    if not made.exists() or made.read_text("utf-8") != digest:
        print(f"installing {' '.join(requirements)} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        _call(python, "-m", "pip", "install", "--quiet", *requirements)
        made.write_text(digest, encoding="utf-8")
    return python


def _requirements(script: Path) -> list[str]:
    first = script.read_text("utf-8").splitlines()[0]
    return first.removeprefix("# pip:").partition(" #")[0].split()


def _exported(source: Source, gamma: float, folder: Path) -> Path:
    """Write the bundle of an export, and the configuration as it is where nothing was edited."""
    bundle = folder / f"gamma-{gamma}"
    edited = export(framework_of(source), source, gamma)
    assert source.folder is not None
    write_bundle(bundle, source.folder / source.name, edited, {"study": None})
    if not (bundle / source.name).exists():
        (bundle / source.name).write_text(source.document.text, encoding="utf-8")
    return bundle


def _as_it_is(source: Source, check: Check, folder: Path) -> Path:
    """Write a bundle without a hook, whose report is of the configuration's own initialization."""
    bundle = folder / "default"
    bundle.mkdir(exist_ok=True)
    text = source.document.text
    if check.depth_scaled:
        text = source.document.edited(check.depth_scaled)
    (bundle / source.name).write_text(text, encoding="utf-8")
    chosen = framework(check.name)
    reading = chosen.read(open_source(bundle / source.name, chosen))
    if reading.depth_scaling is None:
        raise AssertionError(f"{check.name} has no depth scaling: this is no control")
    report = reported(reading, reading, 0.5, (), None).to_document()
    report["files"] = {"configuration": source.name, "hook": None}
    (bundle / REPORT).write_text(json.dumps(report, indent=2), encoding="utf-8")
    return bundle


def framework_of(source: Source) -> str:
    """Return the framework whose folder a configuration lies in."""
    assert source.folder is not None
    return source.folder.name


def _versions(python: Path, requirements: list[str]) -> dict[str, str]:
    listed = json.loads(_call(python, "-m", "pip", "list", "--format", "json"))
    wanted = {each.partition("==")[0].lower() for each in requirements}
    return {each["name"]: each["version"] for each in listed if each["name"].lower() in wanted}


def _call(python: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        [python, *arguments], capture_output=True, text=True, check=False, timeout=3600
    )
    if done.returncode != 0:
        raise SystemExit(f"{python} {' '.join(map(str, arguments))} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _table(name: str, result: Mapping[str, Any]) -> str:
    """Return one framework's cases: how far the worst matrix is off, of what is tolerated."""
    versions = ", ".join(f"{key} {value}" for key, value in result["versions"].items())
    lines = [f"{name} ({versions})"]
    for case, rows in result["cases"].items():
        edit = max(_off(row, "measured_edit", "expected") for row in rows.values())
        hooks = [row for row in rows.values() if row["measured_hook"] is not None]
        hook = max((_off(row, "measured_hook", "wanted") for row in hooks), default=None)
        of_hook = "–" if hook is None else f"{hook:.2f}"
        wrong = [key for key, row in rows.items() if not row["ok"]]
        said = "ok" if not wrong else f"WRONG: {', '.join(wrong)}"
        lines.append(f"  {case:22}{len(rows):4}  edit {edit:5.2f}  hook {of_hook:>5}  {said}")
    return "\n".join(lines)


def _off(row: Mapping[str, Any], measured: str, expected: str) -> float:
    return float(abs(row[measured] / row[expected] - 1) / row["tolerance"])


def main() -> None:
    """Run the checks that the command line names, print them and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frameworks", nargs="*", metavar="FRAMEWORK", help=", ".join(CHECKS))
    default = Path(tempfile.gettempdir()) / "critical-framework-checks"
    parser.add_argument("--work-dir", type=Path, default=default)
    options = parser.parse_args()
    unknown = set(options.frameworks) - set(CHECKS)
    if unknown:
        parser.error(f"{min(unknown)!r} has no check: write some of {', '.join(CHECKS)}")
    kept = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
    print("per case: matrices, and the worst deviation over what is tolerated (1 is the limit)")
    for name in options.frameworks or CHECKS:
        result = run(CHECKS[name], options.work_dir)
        print(_table(name, result))
        kept[name] = {
            "date": datetime.now(UTC).date().isoformat(),
            "python": platform.python_version(),
            "critical": version("critical"),
            **result,
        }
        RESULT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if not all(kept[name]["ok"] for name in options.frameworks or CHECKS):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
