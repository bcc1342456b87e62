// The identity of an action: BLAKE2b (RFC 7693) of 8 bytes over its canonical JSON, as the gateway's Action.digest. What
// was scored and recorded is what runs. Browsers have no BLAKE2; test/digest.test.js holds this against vectors.

const IV = [
  0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
];
const SIGMA = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4], [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13], [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11], [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5], [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];
const MASK = (1n << 64n) - 1n;
const turn = (x, n) => ((x >> n) | (x << (64n - n))) & MASK;

function compress(h, block, length, last) {
  const m = Array.from({length: 16}, (_, i) => block.getBigUint64(8 * i, true));
  const v = [...h, ...IV];
  v[12] ^= length;
  if (last) v[14] ^= MASK;
  const mix = (a, b, c, d, x, y) => {
    v[a] = (v[a] + v[b] + x) & MASK;
    v[d] = turn(v[d] ^ v[a], 32n);
    v[c] = (v[c] + v[d]) & MASK;
    v[b] = turn(v[b] ^ v[c], 24n);
    v[a] = (v[a] + v[b] + y) & MASK;
    v[d] = turn(v[d] ^ v[a], 16n);
    v[c] = (v[c] + v[d]) & MASK;
    v[b] = turn(v[b] ^ v[c], 63n);
  };
  for (let round = 0; round < 12; round++) {
    const s = SIGMA[round % 10];
    for (let i = 0; i < 4; i++) mix(i, 4 + i, 8 + i, 12 + i, m[s[2 * i]], m[s[2 * i + 1]]);
    for (let i = 0; i < 4; i++) mix(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[s[8 + 2 * i]], m[s[9 + 2 * i]]);
  }
  for (let i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
}

/** BLAKE2b of `bytes`, `size` bytes (1 to 64), as hex. */
export function blake2b(bytes, size) {
  const h = [...IV];
  h[0] ^= 0x01010000n ^ BigInt(size);
  for (let at = 0; ; at += 128) {
    const block = new Uint8Array(128);
    block.set(bytes.subarray(at, at + 128));
    const last = at + 128 >= bytes.length;
    compress(h, new DataView(block.buffer), BigInt(Math.min(at + 128, bytes.length)), last);
    if (last) break;
  }
  const out = new DataView(new ArrayBuffer(64));
  h.forEach((word, i) => out.setBigUint64(8 * i, word, true));
  return Array.from(new Uint8Array(out.buffer, 0, size), byte => byte.toString(16).padStart(2, "0")).join("");
}

/** The digest of an action `{tool, control_id, value, text}`: what is empty is left out, in this order. */
export function digestAction(action) {
  const told = {tool: action.tool};
  for (const name of ["control_id", "value", "text"]) if (action[name]) told[name] = action[name];
  return blake2b(new TextEncoder().encode(JSON.stringify(told)), 8);
}
