/**
 * Where each camera's picture stands, so that the page looks out of the car as the rig does. Pure.
 *
 * The main front camera is in the middle on top, other front and rear cameras under it, left and right cameras beside
 * it from front to rear. All numbers are in widths of the middle column; pictures keep their shape and fill the space.
 */

const AHEAD_RAD = Math.PI / 6;
const BEHIND_RAD = (5 / 6) * Math.PI;

/**
 * @param cameras `{name, yaw_rad, fx, width, height}` as the protocol gives them.
 * @param narrow one column with pairs below it, for a phone.
 * @returns `{width, height, tiles: [{name, x, y, width, height}]}` with the tiles as shares of the whole, 0..1.
 */
export function layoutRig(cameras, narrow = false) {
  const { middle, left, right } = places(cameras);
  const aspect = cameras[0].height / cameras[0].width;
  const tiles = narrow ? stack(middle, left, right, aspect) : surround(middle, left, right, aspect);
  const width = Math.max(...tiles.map((tile) => tile.x + tile.width));
  const height = Math.max(...tiles.map((tile) => tile.y + tile.height));
  const shares = tiles.map(({ name, ...tile }) => ({
    name, x: tile.x / width, y: tile.y / height, width: tile.width / width, height: tile.height / height,
  }));
  return { width, height, tiles: shares };
}

/** Which column each camera belongs to, in order from the front. */
export function places(cameras) {
  const turn = ({ yaw_rad }) => Math.abs(wrap(yaw_rad));
  const byTurn = [...cameras].sort((a, b) => turn(a) - turn(b));
  const ahead = byTurn.filter((camera) => turn(camera) < AHEAD_RAD).sort((a, b) => view(b) - view(a));
  const behind = byTurn.filter((camera) => turn(camera) > BEHIND_RAD);
  const beside = byTurn.filter((camera) => !ahead.includes(camera) && !behind.includes(camera));
  return {
    middle: [...ahead, ...behind],
    left: beside.filter(({ yaw_rad }) => wrap(yaw_rad) > 0),
    right: beside.filter(({ yaw_rad }) => wrap(yaw_rad) <= 0),
  };
}

function surround(middle, left, right, aspect) {
  const [main, ...under] = middle;
  const middleWidth = main ? 1 : 0;
  const middleHeight = main ? aspect * (1 + (under.length ? 1 / under.length : 0)) : 0;
  const deepest = Math.max(left.length, right.length);
  // As wide as makes the columns equally high, but never wider than the main picture.
  const sideWidth = deepest ? Math.min(main ? middleHeight / aspect / deepest : 1, 1) : 0;
  const height = Math.max(middleHeight, deepest * sideWidth * aspect);
  const start = left.length ? sideWidth : 0;
  const tiles = [...column(left, 0, sideWidth, aspect, height), ...column(right, start + middleWidth, sideWidth, aspect, height)];
  if (main) tiles.push({ name: main.name, x: start, y: 0, width: 1, height: aspect });
  return [...tiles, ...row(under, start, main ? aspect : 0, 1, aspect)];
}

function stack(middle, left, right, aspect) {
  const [main, ...under] = middle;
  const pairs = left.flatMap((camera, i) => (right[i] ? [camera, right[i]] : [camera])).concat(right.slice(left.length));
  const rest = [...pairs, ...under];
  const tiles = main ? [{ name: main.name, x: 0, y: 0, width: 1, height: aspect }] : [];
  for (let i = 0; i < rest.length; i += 2) {
    const y = (main ? aspect : 0) + (i / 2) * (aspect / 2);
    tiles.push(...row(rest.slice(i, i + 2), 0, y, 1, aspect, 2));
  }
  return tiles;
}

function column(cameras, x, width, aspect, height) {
  const top = (height - cameras.length * width * aspect) / 2;
  return cameras.map(({ name }, i) => ({ name, x, y: top + i * width * aspect, width, height: width * aspect }));
}

function row(cameras, x, y, width, aspect, slots = cameras.length) {
  const each = width / slots;
  return cameras.map(({ name }, i) => ({ name, x: x + i * each, y, width: each, height: each * aspect }));
}

/** Horizontal angle of view, for telling the wide front camera from the narrow one. */
export function view({ width, fx }) {
  return 2 * Math.atan(width / (2 * fx));
}

function wrap(angle) {
  return Math.atan2(Math.sin(angle), Math.cos(angle));
}
