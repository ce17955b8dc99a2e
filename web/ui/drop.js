// Ways to hand a model to the page: drop it anywhere, paste it, choose it, type its address. Takes
// callbacks; gives them files or a URL.
import { byId, el } from './dom.js';

/**
 * @typedef {object} Openers
 * @property {(files: File[]) => void} files
 * @property {(url: string) => void} url
 */

/** @param {Openers} openers */
export function listen({ files, url }) {
  const zone = byId('drop');
  const picker = /** @type {HTMLInputElement} */ (byId('file'));
  const choose = () => picker.click();
  zone.addEventListener('click', choose);
  zone.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    choose();
  });
  picker.addEventListener('change', () => {
    const chosen = [...(picker.files ?? [])];
    picker.value = '';
    if (chosen.length) files(chosen);
  });

  const form = byId('address');
  const field = /** @type {HTMLInputElement} */ (byId('url'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const text = field.value.trim();
    const good = text !== '' && URL.canParse(text, document.baseURI);
    field.toggleAttribute('aria-invalid', false);
    if (good) url(text);
    else {
      field.setAttribute('aria-invalid', 'true');
      field.focus();
    }
  });

  wholePage(files, url);
}

/**
 * @param {(files: File[]) => void} files
 * @param {(url: string) => void} url
 */
function wholePage(files, url) {
  const veil = byId('veil');
  const isOurs = (/** @type {DragEvent} */ event) =>
    [...(event.dataTransfer?.types ?? [])].some((t) => t === 'Files' || t === 'text/uri-list');
  // dragenter and dragleave come in pairs for every element passed; the page is left when they balance.
  let depth = 0;
  const show = (/** @type {boolean} */ on) => {
    veil.hidden = !on;
    document.body.classList.toggle('dragging', on);
  };
  window.addEventListener('dragenter', (event) => {
    if (!isOurs(event)) return;
    depth += 1;
    show(true);
  });
  window.addEventListener('dragleave', (event) => {
    if (!isOurs(event)) return;
    depth = Math.max(0, depth - 1);
    if (!depth) show(false);
  });
  window.addEventListener('dragover', (event) => {
    if (isOurs(event)) event.preventDefault();
  });
  window.addEventListener('drop', (event) => {
    depth = 0;
    show(false);
    if (!isOurs(event)) return;
    event.preventDefault();
    const dropped = [...(event.dataTransfer?.files ?? [])];
    const link = event.dataTransfer?.getData('text/uri-list').split('\n')[0]?.trim();
    const entries = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.() ?? null);
    if (entries.some((entry) => entry?.isDirectory)) void filesIn(entries, dropped).then(files);
    else if (dropped.length) files(dropped);
    else if (link) url(link);
  });
  window.addEventListener('paste', (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])];
    if (!pasted.length) return;
    event.preventDefault();
    files(pasted);
  });
}

/** Files of a folder, those of the folders in it included, that are taken: no model's weights lie in more. */
const MOST_FILES = 500;

/**
 * What was dropped, with a folder's files in its place: a model and its weights are often one folder.
 * @param {(FileSystemEntry | null)[]} entries
 * @param {File[]} dropped the same as files, for what has no entry
 */
async function filesIn(entries, dropped) {
  /** @type {File[]} */
  const found = entries.length ? [] : dropped;
  const todo = entries.filter((entry) => entry !== null);
  for (let entry = todo.shift(); entry && found.length < MOST_FILES; entry = todo.shift()) {
    try {
      if (entry.isDirectory) todo.push(...(await listed(/** @type {FileSystemDirectoryEntry} */ (entry))));
      else found.push(await new Promise((good, bad) => /** @type {FileSystemFileEntry} */ (entry).file(good, bad)));
    } catch {
      // gone meanwhile, or not to be read: the model tells what it misses
    }
  }
  return found;
}

/** @param {FileSystemDirectoryEntry} folder @returns {Promise<FileSystemEntry[]>} */
async function listed(folder) {
  const reader = folder.createReader();
  /** @type {FileSystemEntry[]} */
  const all = [];
  for (;;) {
    // some at a time; none when there are no more
    const some = await new Promise((/** @type {(found: FileSystemEntry[]) => void} */ good, bad) => reader.readEntries(good, bad));
    if (!some.length || all.length > MOST_FILES) return all;
    all.push(...some);
  }
}

/**
 * A smaller target inside the page with its own picker, for what a sample takes (a file to name, an image
 * to read).
 * @param {string} label
 * @param {string} accept as in <input accept>
 * @param {(file: File) => void} take
 */
export function pickButton(label, accept, take) {
  const input = el('input', { type: 'file', accept, hidden: true });
  input.addEventListener('change', () => {
    const file = input.files?.[0];
    input.value = '';
    if (file) take(file);
  });
  return [input, el('button', { type: 'button', onclick: () => input.click() }, label)];
}
