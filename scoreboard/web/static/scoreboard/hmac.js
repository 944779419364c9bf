/**
 * The proof's checksum: HMAC-SHA256 in plain JavaScript. WebCrypto is absent on plain http and may be disabled elsewhere.
 * One way that always works is less code than two, and the message is under 3 KB.
 */

const encoder = new TextEncoder();

/**
 * Lower-case hex HMAC-SHA256 over `actionId:completionTime:points:data`, an absent part empty.
 *
 * @param {string} proofKey its UTF-8 bytes are the key
 * @param {{actionId: string, completionTime: number, points?: number, data?: string}} proof
 * @returns {Promise<string>}
 */
export async function checksum(proofKey, { actionId, completionTime, points, data }) {
  const message = encoder.encode([actionId, completionTime, points ?? "", data ?? ""].join(":"));
  const key = encoder.encode(proofKey);
  return hex(hmacSha256(key, message));
}

/**
 * HMAC as in RFC 2104 over SHA-256's 64-byte blocks.
 *
 * @param {Uint8Array} key
 * @param {Uint8Array} message
 */
function hmacSha256(key, message) {
  const block = new Uint8Array(64);
  block.set(key.length > 64 ? sha256(key) : key);
  const inner = sha256(concat(block.map((byte) => byte ^ 0x36), message));
  return sha256(concat(block.map((byte) => byte ^ 0x5c), inner));
}

/** @param {Uint8Array} first @param {Uint8Array} second */
function concat(first, second) {
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}

/** @param {Uint8Array} bytes */
function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The first 32 bits of the fractional parts of the `power`-th roots of the first `count` primes (FIPS 180-4). */
function rootsOfPrimes(/** @type {number} */ count, /** @type {number} */ power) {
  const words = [];
  for (let candidate = 2; words.length < count; candidate += 1) {
    let isPrime = true;
    for (let divisor = 2; divisor * divisor <= candidate; divisor += 1) isPrime &&= candidate % divisor !== 0;
    if (isPrime) words.push(((candidate ** (1 / power)) % 1) * 2 ** 32 | 0);
  }
  return words;
}

const ROUND = rootsOfPrimes(64, 3);
const START = rootsOfPrimes(8, 2);

/** @param {number} word @param {number} by */
const rotate = (word, by) => (word >>> by) | (word << (32 - by));

/**
 * SHA-256 as in FIPS 180-4.
 *
 * @param {Uint8Array} message
 */
function sha256(message) {
  const padded = new Uint8Array(((message.length + 72) >> 6) << 6);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(message.length / 2 ** 29));
  view.setUint32(padded.length - 4, message.length << 3);
  const state = Int32Array.from(START);
  for (let at = 0; at < padded.length; at += 64) compress(state, view, at);
  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((word, index) => digest.setInt32(index * 4, word));
  return new Uint8Array(digest.buffer);
}

/** @param {Int32Array} state @param {DataView} view @param {number} at */
function compress(state, view, at) {
  const words = new Int32Array(64);
  for (let i = 0; i < 16; i += 1) words[i] = view.getInt32(at + i * 4);
  for (let i = 16; i < 64; i += 1) {
    const low = words[i - 15];
    const high = words[i - 2];
    const s0 = rotate(low, 7) ^ rotate(low, 18) ^ (low >>> 3);
    const s1 = rotate(high, 17) ^ rotate(high, 19) ^ (high >>> 10);
    words[i] = words[i - 16] + s0 + words[i - 7] + s1;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i += 1) {
    const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const first = (h + s1 + ((e & f) ^ (~e & g)) + ROUND[i] + words[i]) | 0;
    const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const second = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, index) => { state[index] += word; });
}
