// The theme button: the system's choice, light, dark, and round again. Takes the button; keeps the choice
// in local storage.

/** @typedef {'' | 'light' | 'dark'} Theme */

/** @type {Record<Theme, {next: Theme, label: string, path: string}>} */
const THEMES = {
  '': {
    next: 'light',
    label: 'as the system',
    path: 'M12 4a8 8 0 1 0 0 16V4z M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18z',
  },
  light: {
    next: 'dark',
    label: 'light',
    path: 'M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8z M11 1h2v4h-2z M11 19h2v4h-2z M1 11h4v2H1z M19 11h4v2h-4z M4.2 5.6l1.4-1.4 2.8 2.8L7 8.4z M15.6 17l1.4-1.4 2.8 2.8-1.4 1.4z M5.6 19.8l-1.4-1.4L7 15.6 8.4 17z M17 8.4 15.6 7l2.8-2.8 1.4 1.4z',
  },
  dark: { next: '', label: 'dark', path: 'M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z' },
};

/** @param {HTMLElement} button */
export function themeButton(button) {
  const root = document.documentElement;
  const show = () => {
    const { label, path } = THEMES[/** @type {Theme} */ (root.dataset.theme ?? '')] ?? THEMES[''];
    button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path fill="currentColor" fill-rule="evenodd" d="${path}"/></svg>`;
    button.setAttribute('aria-label', `Colours: ${label}. Change`);
    button.title = `Colours: ${label}`;
  };
  button.addEventListener('click', () => {
    const { next } = THEMES[/** @type {Theme} */ (root.dataset.theme ?? '')] ?? THEMES[''];
    root.dataset.theme = next;
    try {
      localStorage.setItem('nnjit.theme', next);
    } catch {
      // Storage is blocked: the choice lasts as long as the page.
    }
    show();
  });
  show();
}
