"""ONNX bytes → Model. `load(source, external)` is the entry; `Model.bind(shapes, dims)` gives a Graph."""
