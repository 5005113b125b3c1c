"""An export's report is read back from what was written, and a bundle stands on its own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critical.errors import ExportError
from critical.export import export
from critical.export.bundle import write_bundle
from critical.frameworks import FRAMEWORKS, Source, framework
from critical.frameworks.documents.json_document import JsonDocument
from critical.frameworks.opening import open_source, recognise

EXAMPLE = Path(__file__).parents[3] / "examples" / "llama-small.json"


def example(**changes: object) -> Source:
    """Return the example's configuration with some keys set."""
    document = json.loads(EXAMPLE.read_text()) | changes
    return Source(JsonDocument(json.dumps(document, indent=2) + "\n", "config.json"))


@given(st.floats(min_value=0.01, max_value=4), st.sampled_from([64, 512, 768, 4096]))
def test_what_was_exported_reads_back(gamma: float, width: int) -> None:
    """γ_eq of every matrix that the report calls exact is γ; exporting again changes nothing."""
    source = example(hidden_size=width)
    edited = export("hf", source, gamma)
    again = Source(source.document.with_text(edited.text))
    reading = framework("hf").read(again)
    for reported, matrix in zip(edited.report.matrices, reading.matrices, strict=True):
        assert reported.yielded == matrix.configured_std
        equivalent = -math.log(matrix.configured_std) / math.log(matrix.fan_in)
        assert (abs(equivalent - gamma) < 1e-3) >= reported.exact
    assert export("hf", again, gamma).text == edited.text


def test_the_report_has_the_stds_of_before() -> None:
    """Beside those that the edit yields, and what the hook makes of them."""
    report = export("hf", example(initializer_range=0.02), 0.7).report
    down = next(each for each in report.matrices if "down_proj" in each.name)
    assert down.before == 0.02
    assert down.yielded == 512**-0.7
    assert down.hooked == down.wanted == 1376**-0.7
    assert down.ratio == pytest.approx((1376 / 512) ** 0.7)


@pytest.mark.parametrize("to", ["hf", "pytorch"])
def test_the_report_names_the_version_that_its_stds_are_of(to: str) -> None:
    """As the framework's module states it."""
    document = export(to, example(), 0.7).report.to_document()
    assert document["checked_against"] == framework(to).title
    assert any(character.isdigit() for character in document["checked_against"])


def test_an_exact_edit_needs_no_hook() -> None:
    """Where every fan-in is the width."""
    edited = export("hf", example(intermediate_size=512), 0.7)
    assert edited.report.exact
    assert edited.hook is None
    assert edited.report.hook_usage is None


@pytest.mark.parametrize("gamma", [0, -0.5, 4.1, math.nan, math.inf])
def test_gamma_out_of_range_is_refused(gamma: float) -> None:
    """With the range in the sentence."""
    with pytest.raises(ExportError, match=r"is not in \(0, 4\]: write one, as 0\.7"):
        export("hf", example(), gamma)


def test_a_bundle_stands_on_its_own(tmp_path: Path) -> None:
    """The edited file, the hook, and a report that names both."""
    edited = export("hf", example(), 0.7)
    folder = tmp_path / "new" / "bundle"
    written = write_bundle(folder, Path("config.json"), edited, {"study": None})
    assert [path.name for path in written] == ["config.json", "critical_init.py", "report.json"]
    assert (folder / "config.json").read_text() == edited.text
    report = json.loads((folder / "report.json").read_text())
    assert report["files"] == {"configuration": "config.json", "hook": "critical_init.py"}
    assert report["gamma"] == 0.7
    assert len(report["matrices"]) == len(edited.report.matrices)
    assert "critical" not in [
        line.split()[1].partition(".")[0]
        for line in (folder / "critical_init.py").read_text().splitlines()
        if line.startswith(("import ", "from "))
    ]


def test_a_bundle_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    """In a sentence, with what to write."""
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ExportError, match=r"cannot be made: .*: write --bundle with another folder"
    ):
        write_bundle(tmp_path / "file", Path("c.json"), export("hf", example(), 0.7), {})


def test_a_file_is_recognised_by_its_keys(tmp_path: Path) -> None:
    """Whatever it is called; and what nobody claims is refused with all names."""
    config = tmp_path / "model"
    config.write_text(EXAMPLE.read_text())
    found, source = recognise(config, tuple(FRAMEWORKS.values()))
    assert found.name == "hf"
    assert source.folder == tmp_path
    config.write_text('{"colour": "red"}')
    with pytest.raises(
        ExportError,
        match=r"has the keys of no framework .*: check their names, write --framework \(hf",
    ):
        recognise(config, tuple(FRAMEWORKS.values()))


def test_a_source_is_what_its_framework_reads(tmp_path: Path) -> None:
    """A configuration in another format than the framework's is told so."""
    config = tmp_path / "config.yaml"
    config.write_text("model: {d_model: 3}\n")
    with pytest.raises(ExportError, match=r"config\.yaml is a YAML file, which hf does not read"):
        open_source(config, framework("hf"))
    with pytest.raises(ExportError, match=r"does not read: write a Python file of assignments"):
        open_source(config, framework("nanogpt"))
    (tmp_path / "config").write_text("model: {d_model: 3}\n")
    with pytest.raises(ExportError, match=r"config is not JSON at line 1"):
        _ = open_source(tmp_path / "config", framework("hf")).document.values
