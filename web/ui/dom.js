// Small helpers over the DOM. Takes tag names and properties, returns elements; knows nothing of models.

/**
 * @typedef {Node | string | number | null | undefined | false} Child
 */

/**
 * Makes an element: `el('button', {class: 'primary', onclick: go}, 'Run')`.
 * Keys that are properties of the element are set as such; `class`, `role`, `for`, `aria-*` and `data-*`
 * are attributes.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [props] a false, null or undefined value leaves the attribute out
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || (value === false && !key.startsWith('aria-'))) continue;
    if (key in node && !key.includes('-') && key !== 'list' && key !== 'form') Reflect.set(node, key, value);
    else node.setAttribute(key, value === true && !key.startsWith('aria-') ? '' : String(value));
  }
  append(node, children);
  return node;
}

/**
 * @param {Element} node
 * @param {(Child | Child[])[]} children
 */
function append(node, children) {
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false)
      node.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Replaces everything inside `node`.
 * @param {Element} node
 * @param {...(Child | Child[])} children
 */
export function fill(node, ...children) {
  node.replaceChildren();
  append(node, children);
}

/**
 * A long name that may break where its parts meet: children for `el`. Whoever copies or searches it finds it as it was.
 * @param {string} name of a kernel, a node, operators; sizes
 * @returns {Child[]}
 */
export function breakable(name) {
  return name.split(/(?<=[_/:+.])(?=[A-Za-z])|(?<=×)/).flatMap((part, i) => (i ? [el('wbr'), part] : [part]));
}

/**
 * Makes an SVG element.
 * @param {string} tag
 * @param {Record<string, string | number>} [attributes]
 * @param {...Node} children
 */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.append(...children);
  return node;
}

/**
 * The element with this id, which index.html is known to hold.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`index.html has no #${id}`);
  return node;
}

let unique = 0;

/**
 * An id no other element has, for labels and aria references.
 * @param {string} stem
 */
export function freshId(stem) {
  unique += 1;
  return `${stem}-${unique}`;
}

/**
 * Says something to people who listen to the page rather than look at it.
 * @param {string} text
 */
export function announce(text) {
  byId('live').textContent = text;
}

/**
 * Puts text on the clipboard and shows on the button that it is there.
 * @param {HTMLButtonElement} button
 * @param {string} text
 */
export async function copyFrom(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    // Clipboard access can be denied; a selected text area still lets the person copy by hand.
    const area = el('textarea', { value: text, rows: 6, readOnly: true, 'aria-label': 'Text to copy' });
    button.after(area);
    area.select();
    return;
  }
  announce('Copied');
  setTimeout(() => {
    button.textContent = label;
  }, 1600);
}

/**
 * Calls `act` at once, then at most once in `pause` ms, the last time never left out: for what follows something fast.
 * @param {() => void} act
 * @param {number} pause
 */
export function paced(act, pause) {
  let timer = 0;
  let again = false;
  const tick = () => {
    timer = 0;
    if (!again) return;
    again = false;
    go();
  };
  const go = () => {
    if (timer) {
      again = true;
      return;
    }
    act();
    timer = setTimeout(tick, pause);
  };
  return go;
}

/**
 * Offers bytes or text as a file to save.
 * @param {string} name
 * @param {BlobPart} data
 * @param {string} [type]
 */
export function save(name, data, type = 'application/octet-stream') {
  const href = URL.createObjectURL(new Blob([data], { type }));
  el('a', { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}
