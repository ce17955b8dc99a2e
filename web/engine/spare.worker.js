// Makes arrays for spares.js: takes a number of bytes, gives an ArrayBuffer with every page written to, null for no room.

const PAGE = 4096;

onmessage = ({ data: nbytes }) => {
  try {
    const bytes = new Uint8Array(nbytes);
    for (let at = 0; at < nbytes; at += PAGE) bytes[at] = 0;
    postMessage(bytes.buffer, { transfer: [bytes.buffer] });
  } catch {
    postMessage(null);
  }
};
