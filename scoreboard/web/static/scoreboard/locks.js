/** Web Locks for what must not happen twice; where a browser has none, refuses them or keeps silent, it happens anyway. */

/** Longer than any call under a lock may take. */
const PATIENCE_MS = 20_000;

/**
 * Do the work while no other tab does; after a while regardless of them.
 *
 * @param {string} name
 * @param {() => Promise<void>} work
 * @returns {Promise<void>}
 */
export async function exclusively(name, work) {
  let isStarted = false;
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), PATIENCE_MS);
  const start = () => {
    clearTimeout(timer);
    if (isStarted) return Promise.resolve(); // Granted after all, when the work was done without.
    isStarted = true;
    return work();
  };
  // A facility may keep silent even when told to give up.
  const silence = new Promise((_, reject) => abort.signal.addEventListener("abort", reject));
  try {
    // Blocked cookies block locks as well: they are there, and every request is refused.
    return await Promise.race([navigator.locks.request(name, { signal: abort.signal }, start), silence]);
  } catch (error) {
    if (isStarted) throw error;
    isStarted = true;
    return await work();
  } finally {
    clearTimeout(timer);
  }
}
