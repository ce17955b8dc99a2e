"""Typed errors: every failure a user can meet has a class, a stable code, fields and a hint.

`to_dict()` is what crosses to JavaScript, where an NnjitError with the same `code` is thrown.
"""

from __future__ import annotations

from typing import Any, ClassVar


class NnjitError(Exception):
    """Base of all errors of the project.

    `code` names the kind, `fields` says where (node, op, dtype, file, input, …; only plain values),
    `hint` says what to try.
    """

    code: ClassVar[str] = "ERROR"

    def __init__(self, message: str, *, hint: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields: dict[str, Any] = {k: v for k, v in fields.items() if v is not None}

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def to_dict(self) -> dict[str, Any]:
        """{code, name, message, hint, fields}: plain values, ready for postMessage."""
        return {
            "code": self.code,
            "name": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "fields": {k: _plain(v) for k, v in self.fields.items()},
        }


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    return str(value)


class OptionError(NnjitError):
    """An option that does not fit the model. Fields: option, and what it names."""

    code = "BAD_OPTION"


class ArgumentError(NnjitError):
    """An argument of a type that is not taken. Fields: got."""

    code = "BAD_ARGUMENT"


class ModelFileError(NnjitError):
    """A file of a model that is not there, or cannot be read. Fields: file, reason."""

    code = "MODEL_FILE"


class ModelFormatError(NnjitError):
    """The bytes are not a (whole) ONNX model. Fields: file, offset."""

    code = "MODEL_FORMAT"


class MissingExternalData(NnjitError):
    """A weight lives in another file that was not given. Fields: file, initializer."""

    code = "MISSING_EXTERNAL_DATA"


class UnsupportedOpset(NnjitError):
    """The model asks for an operator set older or newer than the importer knows. Fields: domain, version."""

    code = "UNSUPPORTED_OPSET"


class UnknownOperator(NnjitError):
    """No schema of that name and domain at that version. Fields: node, op, domain, version."""

    code = "UNKNOWN_OPERATOR"


class UnsupportedOperator(NnjitError):
    """An operator that is known, in a form that is not. Fields: node, op, domain."""

    code = "UNSUPPORTED_OPERATOR"


class InvalidGraph(NnjitError):
    """Well-formed bytes, but not a valid graph: a cycle, a missing value, a wrong arity.

    Fields: node, op, value.
    """

    code = "INVALID_GRAPH"


class ShapeError(NnjitError):
    """Shapes do not fit: of an input against its declaration, or of operands.

    Fields: input or node, expected, got.
    """

    code = "SHAPE"


class DTypeError(NnjitError):
    """An element type that does not fit its place. Fields: input or node, expected, got."""

    code = "DTYPE"


class FeedError(NnjitError):
    """A feed is missing, misspelt, or of the wrong type, rank or size. Fields: input, expected, got."""

    code = "FEED"


class ReferenceFailed(NnjitError):
    """onnx.reference could not evaluate a node. Fields: node, op, domain, version."""

    code = "REFERENCE_FAILED"


class ScheduleError(NnjitError):
    """An illegal schedule step; a search skips the candidate."""

    code = "SCHEDULE"


class CompileError(NnjitError):
    """A part of the compiler could not go on. Fields: node, op, kernel."""

    code = "COMPILE"


class OutOfMemory(NnjitError):
    """The model does not fit the memory it may have. Fields: needed, available (bytes)."""

    code = "OUT_OF_MEMORY"


class SessionError(NnjitError):
    """A session was used after release, or is not there. Fields: session."""

    code = "SESSION"


class NetworkError(NnjitError):
    """A download failed. Fields: url, status, received, expected (bytes)."""

    code = "NETWORK"


class Cancelled(NnjitError):
    """The user stopped the work."""

    code = "CANCELLED"


class RecordError(NnjitError):
    """A tuning record that is not one: wrong form, type, size or key. Fields: path, got."""

    code = "RECORD"
