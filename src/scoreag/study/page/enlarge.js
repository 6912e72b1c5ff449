// Lanczos enlargement of RGBA pixels, as Pillow does it: columns, then rows, each rounded to 8 bits.

function lanczosWeights(size, factor) {
  const support = 3;
  const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
  const kernel = (x) => (Math.abs(x) < support ? sinc(x) * sinc(x / support) : 0);
  const weights = [];
  for (let i = 0; i < size * factor; i++) {
    const center = (i + 0.5) / factor;
    const first = Math.max(0, Math.floor(center - support + 0.5));
    const last = Math.min(size, Math.floor(center + support + 0.5));
    const taps = [];
    for (let j = first; j < last; j++) taps.push([j, kernel(j - center + 0.5)]);
    const total = taps.reduce((sum, tap) => sum + tap[1], 0);
    weights.push(taps.map(([j, weight]) => [j, weight / total]));
  }
  return weights;
}

// Enlarge along the first of two axes of (rows, columns, 4), whose rows have `columns` pixels.
function enlargeRows(pixels, rows, columns, factor) {
  const result = new Uint8ClampedArray(rows * factor * columns * 4);
  lanczosWeights(rows, factor).forEach((taps, row) => {
    for (let at = 0; at < columns * 4; at++) {
      let sum = 0;
      for (const [j, weight] of taps) sum += weight * pixels[j * columns * 4 + at];
      result[row * columns * 4 + at] = Math.floor(sum + 0.5);
    }
  });
  return result;
}

function transposePixels(pixels, rows, columns) {
  const result = new Uint8ClampedArray(pixels.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      for (let k = 0; k < 4; k++) {
        result[(j * rows + i) * 4 + k] = pixels[(i * columns + j) * 4 + k];
      }
    }
  }
  return result;
}

function enlargeLanczos(pixels, width, height, factor) {
  const turned = enlargeRows(transposePixels(pixels, height, width), width, height, factor);
  const wide = transposePixels(turned, width * factor, height);
  return enlargeRows(wide, height, width * factor, factor);
}
