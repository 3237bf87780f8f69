/**
 * From what the hands do to the rows of one chunk. Pure.
 *
 * An intent is `{steer, drive, analog}`: steer -1..1 with left positive, drive -1 (brake) .. 1 (accelerate). Keys are
 * all or nothing, so their steering turns in and out at a rate and is limited to what is comfortable at this speed.
 */

const WHEELBASE_M = 2.8;
const LATERAL_MPS2 = 4.0; // firm cornering: what full key deflection may ask for
const TURN_IN_RADPS = 0.55;
const CENTRE_RADPS = 1.1;
const KEY_ACCEL_MPS2 = 2.5;
const ROLLING_MPS2 = 0.25; // hands off: the car slows a little, as cars do

/** The largest steering angle that keys may ask for at a speed [rad]. */
export function comfortableSteering(speedMps, limitRad) {
  return Math.min(limitRad, Math.atan((WHEELBASE_M * LATERAL_MPS2) / Math.max(speedMps * speedMps, 1)));
}

/**
 * Rows [steering_rad, accel_mps2] of one chunk.
 *
 * @param intent see above.
 * @param steeringRad what the last chunk ended with.
 * @param ego `{speedMps}` now.
 * @param space `{low, high}` of the action space `controls`.
 * @param frames rows of a chunk; `dtS` seconds between them.
 */
export function planActions(intent, steeringRad, ego, space, frames, dtS) {
  const limit = space.high[0];
  const wanted = intent.steer * comfortableSteering(ego.speedMps, limit);
  const rows = [];
  let steering = steeringRad;
  for (let frame = 0; frame < frames; frame++) {
    const rate = intent.steer === 0 || Math.sign(wanted) !== Math.sign(steering) ? CENTRE_RADPS : TURN_IN_RADPS;
    const most = intent.analog ? Infinity : rate * dtS;
    steering = clamp(steering + clamp(wanted - steering, -most, most), -limit, limit);
    rows.push([steering, acceleration(intent, space)]);
  }
  return rows;
}

function acceleration(intent, space) {
  if (intent.drive > 0) return intent.drive * (intent.analog ? space.high[1] : Math.min(KEY_ACCEL_MPS2, space.high[1]));
  if (intent.drive < 0) return -intent.drive * space.low[1] * (intent.analog || intent.hard ? 1 : 0.6);
  return -ROLLING_MPS2;
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
