/**
 * localStorage as JSON that never throws: private windows, blocked cookies and full disks have none. What cannot be read
 * back was not stored, whatever the browser said.
 */

/** What could not be stored; newer than what is there under the same key. @type {Map<string, string>} */
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
    // Nothing was kept there.
  }
}

/** @param {string} prefix @returns {string[]} */
export function keys(prefix) {
  let stored = /** @type {string[]} */ ([]);
  try {
    stored = Object.keys(localStorage);
  } catch {
    // Only what is in memory, then.
  }
  return [...new Set([...stored, ...memory.keys()])].filter((key) => key.startsWith(prefix));
}
