/** The page's operations on the document. Text is always set as text, never as HTML. */

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no element #${id}.`);
  return element;
}

/** @param {string} id @param {string} text */
export function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

/** Set a figure and its length for the style sheet, so that a long one shrinks before it covers a name. */
export function setFigure(/** @type {HTMLElement} */ element, /** @type {string} */ text) {
  if (element.textContent === text) return;
  element.textContent = text;
  element.style.setProperty("--chars", String(text.length));
}

/**
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/**
 * Count down the seconds of a wait.
 *
 * @param {number} ms
 * @param {(seconds: number) => void} show called at once and every second, finally with 0
 * @returns {() => void} stops it early, without a last call
 */
export function countDown(ms, show) {
  const until = performance.now() + ms;
  const timer = setInterval(tick, 1_000);
  function tick() {
    const seconds = Math.max(0, Math.ceil((until - performance.now()) / 1_000));
    if (!seconds) clearInterval(timer);
    show(seconds);
  }
  tick();
  return () => clearInterval(timer);
}
