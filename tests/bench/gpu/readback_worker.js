// A thread of readback.js: makes an array of as many bytes as it is told, writes to each of its pages and sends it.
onmessage = ({ data: nbytes }) => {
  const bytes = new Uint8Array(nbytes);
  for (let at = 0; at < nbytes; at += 4096) bytes[at] = 1;
  postMessage(bytes.buffer, { transfer: [bytes.buffer] });
};
