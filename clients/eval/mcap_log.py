"""The log of a rollout as MCAP, with Foxglove's Protobuf schemas. Rerun draws pictures, cameras, transforms and the pose of them, not boxes and checks.

| topic | |
|---|---|
| `/camera/NAME/image`, `/camera/NAME/calibration` | CompressedImage as the server sent it, CameraCalibration |
| `/tf` | FrameTransforms: `world` to `ego` in every frame, `ego` to the cameras once a second |
| `/ego/pose` | PoseInFrame |
| `/world` | SceneUpdate: boxes of the ego and of everybody around, once a chunk |
| `/state` | speed, steering, every driving check, the action: one number per column (schema `roadloop.State`) |
"""

from pathlib import Path
from typing import Any

import numpy as np

from ..extras import need
from ..observation import Observation
from ..protocol import Camera
from ..protocol.replies import AGENT_COLUMNS, EGO_COLUMNS
from .trace import FRAME_COLUMNS, Trace, TraceRecorder

EPOCH_NS = 1_700_000_000_000_000_000  # logs of one world are the same, whenever they are written
OPTICAL = np.array(
    [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]
)  # from z forward, x right to x forward, y left
EGO_BOX = (4.7, 1.9, 1.5)
BLUE, ORANGE = (0.43, 0.66, 0.93, 0.9), (0.88, 0.63, 0.29, 0.8)
ACTION_COLUMNS = {
    "controls": ("steering", "accel"),
    "trajectory": ("x", "y", "yaw"),
    "pose_delta": ("dx", "dy", "dyaw"),
}


def write_log(path: Path, recorder: TraceRecorder, trace: Trace) -> None:
    """Write the log; whole or not there at all.

    Raises:
        MissingExtraError: without the extra `eval`.
    """
    writer_of = need("mcap_protobuf.writer", "eval", "MCAP logs").Writer
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file, writer_of(file) as writer:
        writer.add_metadata(
            "roadloop", {key: str(value) for key, value in trace.about.items() if key != "cameras"}
        )
        log = _Log(writer, trace)
        frame = 0
        for moment, seen in enumerate(recorder.pictures):
            log.chunk(seen, frame, moment)
            frame += len(seen.ego_frames)
    part.replace(path)


class _Log:
    """Writes the messages of one rollout."""

    def __init__(self, writer: Any, trace: Trace) -> None:
        self._writer, self._trace = writer, trace
        self._state_type = _state_type([*EGO_COLUMNS, *FRAME_COLUMNS, *_action_columns(trace)])
        self._last_rig_s = -np.inf

    def chunk(self, seen: Observation, first: int, moment: int) -> None:
        """The frames of one chunk."""
        for k in range(len(seen.ego_frames)):
            frame = first + k
            time_ns = EPOCH_NS + round(frame * self._trace.dt_s * 1e9)
            self._transforms(seen, k, frame, time_ns)
            self._state(frame, time_ns)
            for name, pictures in seen.frames.items():
                self._picture(seen, name, pictures[k], time_ns)
        self._world(
            seen, moment, EPOCH_NS + round((first + len(seen.ego_frames) - 1) * self._trace.dt_s * 1e9)
        )

    def _write(self, topic: str, message: Any, time_ns: int) -> None:
        self._writer.write_message(topic, message, log_time=time_ns, publish_time=time_ns)

    def _picture(self, seen: Observation, name: str, data: bytes, time_ns: int) -> None:
        image = _make("CompressedImage", frame_id=name, format=seen.encoding)
        if seen.encoding == "raw":
            image.format, data = "png", _png(data, seen.cameras[name])
        image.data = data
        image.timestamp.FromNanoseconds(time_ns)
        self._write(f"/camera/{name}/image", image, time_ns)

    def _transforms(self, seen: Observation, k: int, frame: int, time_ns: int) -> None:
        x, y, yaw = (float(seen.ego_frames[k, EGO_COLUMNS.index(c)]) for c in ("x_m", "y_m", "yaw_rad"))
        turn = (0.0, 0.0, float(np.sin(yaw / 2)), float(np.cos(yaw / 2)))
        moves = [_transform("world", "ego", (x, y, 0.0), turn, time_ns)]
        if frame * self._trace.dt_s - self._last_rig_s >= 1.0 - 1e-9:
            self._last_rig_s = frame * self._trace.dt_s
            for camera in seen.cameras.values():
                moves.append(_camera_transform(camera, time_ns))
                self._write(f"/camera/{camera.name}/calibration", _calibration(camera, time_ns), time_ns)
        self._write("/tf", _make("FrameTransforms", transforms=moves), time_ns)
        pose = _make("PoseInFrame", frame_id="world")
        pose.timestamp.FromNanoseconds(time_ns)
        _place(pose.pose, (x, y, 0.0), turn)
        self._write("/ego/pose", pose, time_ns)

    def _state(self, frame: int, time_ns: int) -> None:
        trace = self._trace
        values = dict(zip(EGO_COLUMNS, trace.ego[frame].tolist(), strict=True))
        values |= {name: float(column[frame]) for name, column in trace.frames.items()}
        rows = trace.actions.reshape(-1, trace.actions.shape[2])
        if frame < len(rows):  # the action that leads to the next frame
            values |= dict(zip(_action_columns(trace), rows[frame].tolist(), strict=False))
        message = self._state_type(**values)
        message.timestamp.FromNanoseconds(time_ns)
        self._write("/state", message, time_ns)

    def _world(self, seen: Observation, moment: int, time_ns: int) -> None:
        rows, _ = self._trace.agents_at(moment)
        entity = _make("SceneEntity", id="traffic", frame_id="world")
        entity.timestamp.FromNanoseconds(time_ns)
        for row in rows.tolist():
            agent = dict(zip(AGENT_COLUMNS, row, strict=True))
            size = agent["length_m"], agent["width_m"], agent["height_m"]
            _add_box(entity, agent["x_m"], agent["y_m"], agent["yaw_rad"], size, ORANGE)
        x, y, yaw = (float(seen.ego_frames[-1, EGO_COLUMNS.index(c)]) for c in ("x_m", "y_m", "yaw_rad"))
        _add_box(entity, x + 1.4 * np.cos(yaw), y + 1.4 * np.sin(yaw), yaw, EGO_BOX, BLUE)
        self._write("/world", _make("SceneUpdate", entities=[entity]), time_ns)


def _make(name: str, **values: Any) -> Any:
    """A message of Foxglove's schemas."""
    return getattr(need(f"foxglove_schemas_protobuf.{name}_pb2", "eval", "MCAP logs"), name)(**values)


def _state_type(columns: list[str]) -> Any:
    """The Protobuf class of `/state`: a timestamp and one double per column."""
    descriptors = need("google.protobuf.descriptor_pb2", "eval", "MCAP logs")
    pool = need("google.protobuf.descriptor_pool", "eval", "MCAP logs").DescriptorPool()
    stamp = need("google.protobuf.timestamp_pb2", "eval", "MCAP logs").DESCRIPTOR
    pool.AddSerializedFile(stamp.serialized_pb)
    file = descriptors.FileDescriptorProto(name="roadloop/State.proto", package="roadloop", syntax="proto3")
    file.dependency.append(stamp.name)
    message = file.message_type.add(name="State")
    field = descriptors.FieldDescriptorProto
    message.field.add(
        name="timestamp",
        number=1,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_OPTIONAL,
        type_name=".google.protobuf.Timestamp",
    )
    for number, name in enumerate(columns, 2):
        message.field.add(name=name, number=number, type=field.TYPE_DOUBLE, label=field.LABEL_OPTIONAL)
    pool.Add(file)
    factory = need("google.protobuf.message_factory", "eval", "MCAP logs")
    return factory.GetMessageClass(pool.FindMessageTypeByName("roadloop.State"))


def _action_columns(trace: Trace) -> list[str]:
    """Names of the action's columns in the log; those of the first chunk's space."""
    spaces = trace.about["spaces"] or ["controls"]
    return [f"action_{name}" for name in ACTION_COLUMNS[spaces[0]]]


def _transform(parent: str, child: str, at: tuple[float, ...], turn: tuple[float, ...], time_ns: int) -> Any:
    move = _make("FrameTransform", parent_frame_id=parent, child_frame_id=child)
    move.timestamp.FromNanoseconds(time_ns)
    for part, names, values in ((move.translation, "xyz", at), (move.rotation, "xyzw", turn)):
        for name, value in zip(names, values, strict=True):
            setattr(part, name, value)
    return move


def _camera_transform(camera: Camera, time_ns: int) -> Any:
    """From the ego to the camera's optical axes: z forward, x right, y down."""
    turn = quaternion(rotation(camera.yaw_rad, camera.pitch_rad, camera.roll_rad) @ OPTICAL)
    return _transform("ego", camera.name, (camera.x_m, camera.y_m, camera.z_m), turn, time_ns)


def _calibration(camera: Camera, time_ns: int) -> Any:
    model = {"pinhole": "", "fisheye": "kannala_brandt"}[camera.model]
    made = _make("CameraCalibration", frame_id=camera.name, width=camera.width, height=camera.height)
    made.timestamp.FromNanoseconds(time_ns)
    made.distortion_model = model
    made.D.extend(camera.distortion if model else [])
    made.K.extend([camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1])
    made.R.extend([1, 0, 0, 0, 1, 0, 0, 0, 1])
    made.P.extend([camera.fx, 0, camera.cx, 0, 0, camera.fy, camera.cy, 0, 0, 0, 1, 0])
    return made


def _add_box(
    entity: Any, x: float, y: float, yaw: float, size: tuple[float, ...], color: tuple[float, ...]
) -> None:
    cube = entity.cubes.add()
    _place(cube.pose, (x, y, size[2] / 2), (0.0, 0.0, float(np.sin(yaw / 2)), float(np.cos(yaw / 2))))
    cube.size.x, cube.size.y, cube.size.z = size
    cube.color.r, cube.color.g, cube.color.b, cube.color.a = color


def _place(pose: Any, at: tuple[float, ...], turn: tuple[float, ...]) -> None:
    pose.position.x, pose.position.y, pose.position.z = at
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = turn


def rotation(yaw_rad: float, pitch_rad: float, roll_rad: float) -> np.ndarray:
    """float64 [3, 3] from a camera's body axes to the ego's: roll, then pitch (up positive), then yaw (left)."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw_rad, pitch_rad, roll_rad))
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    pitch = np.array([[cp, 0, -sp], [0, 1, 0], [sp, 0, cp]])
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return np.asarray(yaw @ pitch @ roll)


def quaternion(matrix: np.ndarray) -> tuple[float, float, float, float]:
    """x, y, z, w of a rotation: the eigenvector of Bar-Itzhack's matrix (2000), without the cases of the usual formula."""
    m = matrix
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    x, y, z, w = np.linalg.eigh(k)[1][:, -1].tolist()
    return x, y, z, w


def _png(data: bytes, camera: Camera) -> bytes:
    cv2 = need("cv2", "eval", "MCAP logs of raw frames")
    picture = np.frombuffer(data, np.uint8).reshape(camera.height, camera.width, 3)
    encoded: bytes = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    return encoded
