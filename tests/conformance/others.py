"""The section of docs/operators.md on operators that ONNX's standard does not have: what each is, and how it runs.

    PYTHONPATH=py python -m tests.conformance.others        writes it anew

From the declarations in py/nnjit/graph/extensions; nothing is run.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import onnx

from nnjit.graph.extensions import expansion, expansions, schemas
from nnjit.lower.build import lower as _kernels  # noqa: F401  (imports the rules)
from nnjit.lower.registry import COMPUTE

DOCUMENT = Path(__file__).parents[2] / "docs" / "operators.md"
BEGIN, END = "\n## Operators of other domains\n", "\n## Cases not passed"

HEAD = """
{count} operators of onnxruntime's domain com.microsoft, and ones that ONNX had before it counted versions. Models carry
them that onnxruntime's optimizer, quantiser and genai builder have written. Those of ai.onnx.ml come from scikit-learn,
XGBoost and LightGBM; given numbers they run on kernels, and where they look up text, or are not below (support vector
machines), on the reference. Where shapes are known, each is replaced by operators of ai.onnx that say the same, so that
the kernels of these serve it on every backend; the few with a kernel of their own say so. Inputs and attributes are
those of onnxruntime; `(…)` may be absent, `…*` repeats. A form that is not known here (a quantised cache, say) is an
`UNSUPPORTED_OPERATOR` error that names the node.

Oracle is native onnxruntime, wherever its CPU provider has the operator: a sample in the tests, more by
`python -m tests.fuzz.contrib` and `tests.fuzz.contrib_quantised`.

| operator | inputs | what it is |
|---|---|---|
"""


def section() -> str:
    """The whole section, in Markdown."""
    text = BEGIN + HEAD.format(count=sum(domain == "com.microsoft" for domain, _ in schemas()))
    known = schemas()
    known = known | {
        key: onnx.defs.get_schema(key[1], domain=key[0]) for key in expansions() if key not in known
    }
    for (domain, name), schema in sorted(known.items()):
        inputs = " ".join(_input(formal) for formal in schema.inputs)
        text += f"| {domain + '.' if domain else ''}{name} | {inputs} | {_what(domain, name)} |\n"
    return text


def _input(formal: object) -> str:
    name, option = formal.name, formal.option.name  # type: ignore[attr-defined]
    return {"Optional": f"({name})", "Variadic": f"{name}*"}.get(option, name)


def _what(domain: str, name: str) -> str:
    function = expansion(domain, name)
    if function is None:
        return "a kernel of its own" if name in COMPUTE else "the reference runs it"
    first = (inspect.getdoc(function) or "").split("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|").rstrip(".")


def placed(text: str) -> str:
    """The document with the section in its place."""
    if BEGIN in text:
        begin = text.index(BEGIN)
        end = text.index(END, begin) if END in text[begin:] else len(text)
        text = text[:begin] + text[end:]
    at = text.index(END) if END in text else len(text)
    return text[:at] + section() + text[at:]


if __name__ == "__main__":
    DOCUMENT.write_text(placed(DOCUMENT.read_text()))
