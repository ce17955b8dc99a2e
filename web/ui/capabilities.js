// What the browser gives this page, and for each thing it does not give: how to get it. Takes nothing;
// fills the strip.
import { byId, el, fill } from './dom.js';

/**
 * @typedef {object} Capability
 * @property {string} name
 * @property {boolean} has
 * @property {string} note after the name: a number, or how it matters
 * @property {{text: string, code?: string}} fix what to do when it is missing
 */

const HEADER = [0, 97, 115, 109, 1, 0, 0, 0];
/** (func (result v128) i32.const 0 i8x16.splat) */
const SIMD = [...HEADER, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11];
/** The same twice, then i8x16.relaxed_swizzle (0xFD 0x100). */
const RELAXED = [
  ...HEADER,
  1,
  5,
  1,
  96,
  0,
  1,
  123,
  3,
  2,
  1,
  0,
  10,
  15,
  1,
  13,
  0,
  65,
  0,
  253,
  15,
  65,
  0,
  253,
  15,
  253,
  128,
  2,
  11,
];

/** @param {number[]} bytes */
const valid = (bytes) => WebAssembly.validate(new Uint8Array(bytes));

/** @returns {Promise<string>} the adapter's name; '' for none */
async function adapterName() {
  const gpu =
    /** @type {{requestAdapter(): Promise<{info?: {vendor?: string, architecture?: string, description?: string}} | null>} | undefined} */ (
      Reflect.get(navigator, 'gpu')
    );
  const adapter = await gpu?.requestAdapter().catch(() => null);
  if (!adapter) return '';
  const { vendor, architecture, description } = adapter.info ?? {};
  return description || [vendor, architecture].filter(Boolean).join(' ') || 'adapter';
}

/**
 * @param {string} gpu the adapter's name, '' for none
 * @returns {Capability[]}
 */
export function capabilities(gpu) {
  const isolated = globalThis.crossOriginIsolated === true;
  const shares = isolated && typeof SharedArrayBuffer !== 'undefined';
  const cores = navigator.hardwareConcurrency || 1;
  const secure = globalThis.isSecureContext;
  const insecure =
    'Browsers give this only to pages that came over https or from this very machine. Open the page as http://localhost instead of by the machine’s address or name.';
  return [
    {
      name: 'isolation',
      has: shares,
      note: 'shared memory',
      fix: isolated
        ? {
            text: 'The page is isolated, but this browser shares no memory between threads all the same. WebKitGTK does when it is started with:',
            code: 'JSC_useSharedArrayBuffer=1',
          }
        : secure
          ? {
              text: 'Memory can be shared between threads only on a page that is isolated from others. python3 serve.py sends what that takes; any other server must send these two headers with every file:',
              code: 'Cross-Origin-Opener-Policy: same-origin\nCross-Origin-Embedder-Policy: require-corp',
            }
          : { text: insecure },
    },
    {
      name: 'threads',
      has: shares && cores > 1,
      note: shares ? String(cores) : '',
      fix: shares
        ? {
            text: 'The browser reports one core. A browser that resists fingerprinting hides the true number; in Firefox that is privacy.resistFingerprinting in about:config.',
          }
        : { text: 'Threads need shared memory: mend that first. Until then models run on one core.' },
    },
    {
      name: 'SIMD',
      has: valid(SIMD),
      note: '128 bits',
      fix: {
        text: 'nnjit computes four numbers at a time with WebAssembly SIMD. Update the browser: Chrome and Edge have it since version 91, Firefox since 89, Safari since 16.4. In Edge, “enhanced security” for a site turns it off.',
      },
    },
    {
      name: 'relaxed SIMD',
      has: valid(RELAXED),
      note: 'fused multiply-add',
      fix: {
        text: 'Everything runs without it, but multiplying and adding take two instructions instead of one. Chrome and Edge have it since version 114, Firefox since 145 (before: javascript.options.wasm_relaxed_simd in about:config); in Safari look for “WebAssembly relaxed SIMD” among the feature flags of the Develop menu.',
      },
    },
    {
      name: 'WebGPU',
      has: gpu !== '',
      note: gpu,
      fix: !secure
        ? { text: insecure }
        : 'gpu' in navigator
          ? {
              text: 'The browser knows WebGPU but offers no adapter. In Chrome see which line is red on chrome://gpu, in Firefox the Graphics part of about:support; on Linux start Chrome with:',
              code: '--enable-unsafe-webgpu --enable-features=Vulkan',
            }
          : {
              text: 'Models run on the processor. For the graphics card: Chrome and Edge from version 113, Safari from 26, Firefox from 141 (there dom.webgpu.enabled in about:config).',
            },
    },
  ];
}

export async function showCapabilities() {
  const strip = byId('caps');
  const fixes = byId('caps-fix');
  const draw = (/** @type {Capability[]} */ list, /** @type {boolean} */ asking) =>
    fill(
      strip,
      ...list.map((cap) => {
        if (asking && cap.name === 'WebGPU')
          return el('li', {}, el('span', { class: 'chip wait' }, cap.name));
        if (cap.has) {
          return el(
            'li',
            {},
            el(
              'span',
              { class: 'chip' },
              el('span', { class: 'sr' }, 'has'),
              cap.name,
              cap.note && el('small', {}, cap.note),
            ),
          );
        }
        const button = el(
          'button',
          { class: 'chip no', type: 'button', 'aria-expanded': 'false', 'aria-controls': 'caps-fix' },
          el('span', { class: 'sr' }, 'has no'),
          cap.name,
          el('small', {}, 'how to get it'),
        );
        button.onclick = () => {
          const open = button.getAttribute('aria-expanded') === 'true';
          for (const other of strip.querySelectorAll('[aria-expanded]'))
            other.setAttribute('aria-expanded', 'false');
          button.setAttribute('aria-expanded', String(!open));
          if (open) fill(fixes);
          else
            fill(
              fixes,
              el(
                'div',
                { class: 'fix' },
                el('p', {}, el('strong', {}, `${cap.name}: `), cap.fix.text),
                cap.fix.code && el('pre', {}, cap.fix.code),
              ),
            );
        };
        return el('li', {}, button);
      }),
    );
  draw(capabilities(''), true);
  draw(capabilities(await adapterName()), false);
}
