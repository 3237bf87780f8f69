/** How much two mosaics differ, over the pixels that they show. */

/** PSNR of two RGBA pixel arrays [dB]; Infinity when they are equal. Alpha does not count. Pure. */
export function psnr(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 4) {
    for (let c = 0; c < 3; c++) sum += (a[i + c] - b[i + c]) ** 2;
  }
  return sum === 0 ? Infinity : 10 * Math.log10((255 * 255 * (a.length / 4) * 3) / sum);
}

/** PSNR of the first camera that both mosaics show, or null. */
export function compare(mosaicA, mosaicB) {
  for (const [name, { canvas }] of mosaicA.tiles) {
    const other = mosaicB.tiles.get(name)?.canvas;
    if (other && other.width === canvas.width && other.height === canvas.height) {
      return psnr(pixels(canvas), pixels(other));
    }
  }
  return null;
}

function pixels(canvas) {
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
}
