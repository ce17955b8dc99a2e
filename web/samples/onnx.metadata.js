// Reads a model's own notes (ModelProto.metadata_props) without reading its weights. Takes the bytes of an
// .onnx file, returns key and value pairs. Protobuf wire format: https://protobuf.dev/programming-
// guides/encoding/

/** ModelProto.metadata_props, repeated StringStringEntryProto {key = 1, value = 2}. */
const METADATA_PROPS = 14;

/**
 * @param {Uint8Array} bytes
 * @returns {Map<string, string>}
 */
export function metadata(bytes) {
  const found = new Map();
  for (const { field, body } of fields(bytes)) {
    if (field !== METADATA_PROPS) continue;
    const entry = [...fields(body)].map((part) => [part.field, new TextDecoder().decode(part.body)]);
    const { 1: key, 2: value } = Object.fromEntries(entry);
    if (key !== undefined) found.set(key, value ?? '');
  }
  return found;
}

/**
 * Length-delimited fields of one message, in order; others are stepped over.
 * @param {Uint8Array} bytes
 */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    let scale = 1;
    for (;;) {
      if (at >= bytes.length) throw new Error('the message ends in the middle of a number');
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      scale *= 128;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const wire = tag % 8;
    if (wire === 0) varint();
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      const length = varint();
      yield { field: Math.floor(tag / 8), body: bytes.subarray(at, at + length) };
      at += length;
    } else throw new Error(`wire type ${wire} is none of protobuf's`);
  }
}
