"""TensorProto → Const: in memory, or a lazy range of the model's file or of an external data file."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from ..errors import MissingExternalData, ModelFormatError
from ..graph import dtypes, protos
from ..graph.const import ByteRange, Const
from .messages import AnyTensor, Tensor
from .source import ByteSource
from .wire import SELF


class Files:
    """The files a model consists of, by number: 0 is the model, others join when a tensor names them."""

    def __init__(self, model: ByteSource, external: Mapping[str, ByteSource]) -> None:
        self.sources: list[ByteSource] = [model]
        self.names: list[str] = [model.name]
        self._external = {_clean(name): source for name, source in external.items()}
        self._number: dict[str, int] = {}

    def read(self, where: ByteRange) -> bytes:
        data = self.sources[where.file].read(where.start, where.length)
        if len(data) != where.length:
            raise ModelFormatError(
                f"{self.names[where.file]}: {len(data)} of {where.length} bytes are there at {where.start}",
                hint="the file changed or was cut since the model was loaded: load it again",
                file=self.names[where.file],
                offset=where.start,
            )
        return data

    def number(self, location: str, initializer: str) -> int:
        """Which of `sources` a file is, 0 being the model's own; MissingExternalData if it was not given."""
        if location == SELF:
            return 0
        key = _clean(location)
        if key not in self._number:
            # A page knows its dropped files by their bare names.
            source = self._external.get(key) or self._external.get(key.rsplit("/", 1)[-1])
            if source is None:
                given = ", ".join(sorted(self._external)) or "no external file"
                raise MissingExternalData(
                    f"weight {initializer!r} lives in {location!r}, which was not given ({given} was)",
                    hint=f"give {location!r} together with the model",
                    file=location,
                    initializer=initializer,
                )
            self._number[key] = len(self.sources)
            self.sources.append(source)
            self.names.append(location)
        return self._number[key]


def _clean(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def tensor_const(tensor: AnyTensor, files: Files) -> Const:
    """The constant a TensorProto stands for. Raises ModelFormatError when its data does not fit its shape."""
    dtype = dtypes.FROM_ONNX.get(tensor.data_type, "")
    shape = tuple(tensor.dims)
    if not dtype or any(d < 0 for d in shape):
        raise _bad(tensor, f"type {tensor.data_type} and shape {list(shape)} make no tensor", files)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return _external(tensor, dtype, shape, files)
    try:
        array = tensor.array() if isinstance(tensor, Tensor) else protos.tensor_to_numpy(tensor)
    except (ValueError, TypeError) as error:
        raise _bad(tensor, str(error), files) from error
    return Const(dtype, shape, array)


def _external(tensor: AnyTensor, dtype: str, shape: tuple[int, ...], files: Files) -> Const:
    info = {entry.key: entry.value for entry in tensor.external_data}
    number = files.number(info.get("location", ""), tensor.name)
    const = Const(dtype, shape)
    try:
        start = int(info.get("offset", 0))
        length = int(info.get("length", const.nbytes))
    except ValueError as error:
        raise _bad(tensor, f"external data entry {info} is not a number", files) from error
    if length != const.nbytes:
        raise _bad(tensor, f"{dtype}{list(shape)} needs {const.nbytes} bytes, its data has {length}", files)
    size = files.sources[number].size
    if start < 0 or start + length > size:
        raise ModelFormatError(
            f"weight {tensor.name!r} is bytes {start} to {start + length} of {files.names[number]}, "
            f"which has {size}",
            hint="the file was cut short, or belongs to another model: fetch it again",
            file=files.names[number],
            offset=size,
            initializer=tensor.name,
        )
    return Const(dtype, shape, None, ByteRange(number, start, length), files.read)


def _bad(tensor: AnyTensor, why: str, files: Files) -> ModelFormatError:
    return ModelFormatError(
        f"{files.names[0]}: tensor {tensor.name!r} is damaged: {why}",
        hint="fetch or export the model again",
        file=files.names[0],
        initializer=tensor.name,
    )
