/** Records what this page shows (WebM of the mosaic) and what was driven (CSV), to be saved as files. */

const VIDEO_WIDTH = 1280;
const ROWS_KEPT = 36_000; // frames of the log: 50 minutes
const CSV_COLUMNS = [
  "chunk", "frame", "steering_rad", "accel_mps2", "x_m", "y_m", "yaw_rad", "speed_mps", "lane_offset_m",
  "route_completion", "ttc_s", "collision_with", "off_road", "red_light", "wrong_way",
];

/** The rows that a replay or a plot needs; `actions` may be null for somebody else's driving. Pure. */
export function logRows({ chunk, ego, metrics }, actions) {
  return ego.rows().map((row, frame) => {
    const [steering, accel] = actions?.[frame] ?? [row[5], row[4]];
    const judged = ["lane_offset_m", "route_completion", "ttc_s", "collision_with", "off_road", "red_light", "wrong_way"];
    return [chunk, frame, steering, accel, row[0], row[1], row[2], row[3], ...judged.map((name) => metrics[name]?.[frame] ?? "")];
  });
}

/** The log as CSV text. */
export function toCsv(rows) {
  const cell = (value) => (typeof value === "number" && !Number.isInteger(value) ? String(+value.toPrecision(9)) : String(value));
  return [CSV_COLUMNS, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

export class Recorder {
  constructor() {
    this.rows = [];
    this.media = null;
  }

  get recording() {
    return this.media !== null;
  }

  get canFilm() {
    return typeof MediaRecorder !== "undefined" && "captureStream" in HTMLCanvasElement.prototype;
  }

  log(message, actions) {
    this.rows.push(...logRows(message, actions));
    if (this.rows.length > ROWS_KEPT) this.rows.splice(0, this.rows.length - ROWS_KEPT);
  }

  forget() {
    this.rows = [];
  }

  /** Begin to film a mosaic. */
  start(mosaic, fps) {
    const canvas = document.createElement("canvas");
    const { width, height } = mosaic.layout;
    [canvas.width, canvas.height] = [VIDEO_WIDTH, even((VIDEO_WIDTH * height) / width)];
    const context = canvas.getContext("2d", { alpha: false });
    this.timer = setInterval(() => compose(context, mosaic.canvases()), 1000 / fps);
    const parts = [];
    this.media = new MediaRecorder(canvas.captureStream(fps), { mimeType: "video/webm", videoBitsPerSecond: 8e6 });
    this.media.ondataavailable = ({ data }) => parts.push(data);
    this.media.onstop = () => save(new Blob(parts, { type: "video/webm" }), `roadloop-${stamp()}.webm`);
    this.media.start(1000);
  }

  /** End the film and save it. */
  stop() {
    clearInterval(this.timer);
    this.media?.stop();
    this.media = null;
  }

  saveLog() {
    save(new Blob([toCsv(this.rows)], { type: "text/csv" }), `roadloop-${stamp()}.csv`);
  }
}

function compose(context, tiles) {
  const { width, height } = context.canvas;
  for (const tile of tiles) {
    context.drawImage(tile.canvas, tile.x * width, tile.y * height, tile.width * width, tile.height * height);
  }
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function stamp() {
  return new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
}

function even(value) {
  return 2 * Math.round(value / 2);
}
