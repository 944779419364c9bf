/**
 * localStorage as JSON that never throws: private windows, blocked cookies and full disks have none. A value counts as
 * stored only when it can be read back. Other values are kept in memory.
 */

/** Values that could not be stored; newer than the stored ones under the same key. @type {Map<string, string>} */
const memory = new Map();

/** @param {string} key @returns {unknown} null when absent or unreadable */
export function read(key) {
  try {
    return JSON.parse(memory.get(key) ?? localStorage.getItem(key) ?? "null");
  } catch {
    return JSON.parse(memory.get(key) ?? "null");
  }
}

/** @param {string} key @param {unknown} value */
export function write(key, value) {
  const text = JSON.stringify(value);
  try {
    localStorage.setItem(key, text);
    if (localStorage.getItem(key) === text) return void memory.delete(key);
  } catch {
    // Refused, or full.
  }
  memory.set(key, text);
}

/** @param {string} key */
export function remove(key) {
  memory.delete(key);
  try {
    localStorage.removeItem(key);
  } catch {
    // Nothing was stored there.
  }
}

/** @param {string} prefix @returns {string[]} */
export function keys(prefix) {
  let stored = /** @type {string[]} */ ([]);
  try {
    stored = Object.keys(localStorage);
  } catch {
    // Only memory is left.
  }
  return [...new Set([...stored, ...memory.keys()])].filter((key) => key.startsWith(prefix));
}
