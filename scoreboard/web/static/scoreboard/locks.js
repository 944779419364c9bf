/** Work for one tab at a time, by Web Locks. Without a lock (absent, refused or silent) the work is done anyway. */

/** Longer than any call under a lock may take. */
const TIMEOUT_MS = 20_000;

/**
 * Do the work while no other tab does; after the timeout in any case.
 *
 * @param {string} name
 * @param {() => Promise<void>} work
 * @returns {Promise<void>}
 */
export async function exclusively(name, work) {
  let isStarted = false;
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), TIMEOUT_MS);
  const start = () => {
    clearTimeout(timer);
    if (isStarted) return Promise.resolve(); // The lock came after the timeout: the work is done.
    isStarted = true;
    return work();
  };
  // A lock request may not settle even when it is aborted.
  const timeout = new Promise((_, reject) => abort.signal.addEventListener("abort", reject));
  try {
    // Where cookies are blocked, locks exist and every request is refused.
    return await Promise.race([navigator.locks.request(name, { signal: abort.signal }, start), timeout]);
  } catch (error) {
    if (isStarted) throw error;
    isStarted = true;
    return await work();
  } finally {
    clearTimeout(timer);
  }
}
