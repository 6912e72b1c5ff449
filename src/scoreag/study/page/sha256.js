// SHA-256 (FIPS 180-4): browsers offer none to pages that are opened from a file.

const sha256Constants = (() => {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) {
    if (primes.every((p) => n % p)) primes.push(n);
  }
  const fraction = (x) => Math.floor((x - Math.floor(x)) * 2 ** 32) >>> 0;
  return {
    start: primes.slice(0, 8).map((p) => fraction(Math.sqrt(p))),
    round: primes.map((p) => fraction(Math.cbrt(p))),
  };
})();

function utf8Bytes(text) {
  return Array.from(unescape(encodeURIComponent(text)), (c) => c.charCodeAt(0));
}

function padMessage(bytes) {
  const padded = bytes.concat([0x80]);
  while (padded.length % 64 !== 56) padded.push(0);
  const high = Math.floor(bytes.length / 2 ** 29);
  const low = (bytes.length << 3) >>> 0;
  for (const word of [high, low]) {
    for (const shift of [24, 16, 8, 0]) padded.push((word >>> shift) & 0xff);
  }
  return padded;
}

function expandBlock(bytes, offset) {
  const rotate = (x, n) => (x >>> n) | (x << (32 - n));
  const words = [];
  for (let i = 0; i < 16; i++) {
    const at = offset + 4 * i;
    words.push((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]);
  }
  for (let i = 16; i < 64; i++) {
    const a = words[i - 15];
    const b = words[i - 2];
    const s0 = rotate(a, 7) ^ rotate(a, 18) ^ (a >>> 3);
    const s1 = rotate(b, 17) ^ rotate(b, 19) ^ (b >>> 10);
    words.push((words[i - 16] + s0 + words[i - 7] + s1) | 0);
  }
  return words;
}

function compressBlock(state, words) {
  const rotate = (x, n) => (x >>> n) | (x << (32 - n));
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + sha256Constants.round[i] + words[i]) | 0;
    const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
  }
  return [a, b, c, d, e, f, g, h].map((x, i) => (state[i] + x) | 0);
}

function sha256(text) {
  const bytes = padMessage(utf8Bytes(text));
  let state = sha256Constants.start;
  for (let offset = 0; offset < bytes.length; offset += 64) {
    state = compressBlock(state, expandBlock(bytes, offset));
  }
  return state.map((x) => (x >>> 0).toString(16).padStart(8, "0")).join("");
}
