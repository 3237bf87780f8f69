"""The worker's loop around one engine. Its thread owns the engine and receives work; encoders turn frames into bytes and answer.

Knows nothing of clients, tokens or the wire protocol's order.
"""

import logging
import os
import time
from math import ceil
from typing import Any

import zmq

from clients.protocol import ErrorCode

from .channel import WorkerConfig, connect, has_message
from .encoders import ENGINE_BROKEN, Encoders
from .messages import (
    CloseWork,
    Done,
    Failed,
    ForkWork,
    Map,
    MapWork,
    OpenWork,
    RestoreWork,
    SnapshotWork,
    State,
    StepWork,
    StopWork,
    TierWork,
    from_bytes,
    to_bytes,
)
from .video import VideoStreams

log = logging.getLogger("roadloop.worker")


class Worker:
    """Receives work, runs ready sessions as one batch, hands frames to the encoders."""

    def __init__(self, config: WorkerConfig, context: zmq.Context[Any]) -> None:
        from .engines import EngineChoice, build_engine, describe

        self.config = config
        choice = EngineChoice(**config.engine)
        self.engine = build_engine(choice)
        self.socket = connect(context, config.address, config.name)
        self.encoders = Encoders(config, context)
        self.poller = zmq.Poller()
        self.poller.register(self.socket, zmq.POLLIN)
        self.poller.register(self.encoders.done.descriptor, zmq.POLLIN)
        self.videos = VideoStreams(self.encoders.send)
        self.ids: dict[str, int] = {}  # session name -> engine's id
        self.encodings: dict[str, tuple[str, list[str]]] = {}  # session name -> encoding, camera names
        self.ready: dict[str, StepWork] = {}  # session name -> chunk to run
        self.together: set[str] = set()  # sessions of the last batch
        self.unflushed: set[str] = set()  # sessions for which the engine may have left work
        self.flush_ms: dict[str, float] = {}  # session name -> what that work took after its last reply
        self.running = True
        self.socket.send(to_bytes(describe(self.engine, choice, config.name, os.getpid())))

    def run_forever(self) -> None:
        """The main loop."""
        while self.running:
            self.receive()
            self.wait_for_companions()
            self.step(self.take_batch())
        self.videos.close()
        self.encoders.close()
        self.socket.close()

    def receive(self) -> None:
        """Wait for at least one message, then take all there are."""
        if not self.ready:
            self.wait()
        while has_message(self.socket):
            self.take()

    def wait(self) -> None:
        """Until a message comes. Meanwhile, once all answers are out, the engine does what it left for later."""
        while not has_message(self.socket):
            if self.unflushed and self.encoders.idle:
                self.flush_engine()
            elif self.encoders.done.descriptor in dict(self.poller.poll()):
                self.encoders.done.clear()

    def flush_engine(self) -> None:
        """If it fails, nothing is lost: the sessions' next chunk does the work."""
        began_s = time.monotonic()
        try:
            count = self.engine.flush()
        except Exception as error:
            _exit_if_device_broke(error)
            log.exception("work left for later failed")
            count = 0
        if count:
            share_ms = (time.monotonic() - began_s) * 1e3 / count
            self.flush_ms.update(dict.fromkeys(self.unflushed, share_ms))
        self.unflushed.clear()

    def wait_for_companions(self) -> None:
        """Sessions that ran together last time run together again if all are here within `batch_wait_ms`."""
        deadline_s = time.monotonic() + self.config.batch_wait_ms / 1e3
        while self.ready and not self.together <= self.ready.keys():
            left_ms = (deadline_s - time.monotonic()) * 1e3
            if left_ms <= 0 or not self.socket.poll(ceil(left_ms)):
                return
            self.take()

    def take(self) -> None:
        """Take what the front end sent at once."""
        for data in self.socket.recv_multipart():
            self.handle(from_bytes(data))

    def take_batch(self) -> dict[str, StepWork]:
        """The sessions that run now, first come first; those whose deadline has passed are answered instead."""
        batch: dict[str, StepWork] = {}
        now_s = time.monotonic()
        for name in list(self.ready)[: self.config.max_batch]:
            work = self.ready.pop(name)
            if work.wait_ms is not None and (now_s - work.sent_s) * 1e3 > work.wait_ms:
                self.fail(
                    work.req, ErrorCode.DEADLINE_EXCEEDED, f"expected to begin within {work.wait_ms:g} ms"
                )
            else:
                batch[name] = work
        self.together = set(batch)
        return batch

    def step(self, batch: dict[str, StepWork]) -> None:
        """Run one batch and pass its frames on; errors are answered at once."""
        if not batch:
            return
        began_s = time.monotonic()
        results = self.run_engine(batch)
        engine_ms = (time.monotonic() - began_s) * 1e3
        self.unflushed.update(batch)
        for name, work in batch.items():
            result = results[name]
            if isinstance(result, Exception):
                self.answer_error(work.req, result)
                continue
            timing = {"queue": (began_s - work.sent_s) * 1e3, "engine": engine_ms, **result.timings_ms}
            if name in self.flush_ms:
                timing["flush"] = self.flush_ms.pop(name)
            self.encoders.submit(
                work.req, result, *self.encodings[name], timing, len(batch), newest=work.newest
            )
            if work.video:
                cameras = self.encodings[name][1]
                frames = {camera: result.frames[cameras.index(camera)] for camera in work.video}
                self.videos.submit(name, result.chunk, frames, work.video_key)

    def run_engine(self, batch: dict[str, StepWork]) -> dict[str, Any]:
        """Results or errors by session name. If the batch as a whole fails, each session is tried alone."""
        from worldmodel.engine import ActionChunk

        actions = {self.ids[name]: ActionChunk(work.space, work.actions) for name, work in batch.items()}  # type: ignore[arg-type]
        try:
            results = self.engine.step(actions)
        except Exception as error:
            _exit_if_device_broke(error)
            log.exception("a batch of %d sessions failed", len(batch))
            if len(batch) == 1:
                return dict.fromkeys(batch, error)
            return {name: self.run_engine({name: work})[name] for name, work in batch.items()}
        return {name: results[self.ids[name]] for name in batch}

    def handle(self, message: Any) -> None:
        """Take one message: steps wait for the batch, everything else is done at once."""
        if isinstance(message, StepWork):
            if message.session not in self.ids:
                self.fail(
                    message.req, ErrorCode.UNKNOWN_SESSION, f"expected an open session, got {message.session}"
                )
            else:
                self.ready[message.session] = message
            return
        try:
            self.control(message)
        except Exception as error:
            _exit_if_device_broke(error)
            self.answer_error(message.req, error)

    def control(self, message: Any) -> None:
        """Everything but steps."""
        match message:
            case OpenWork():
                self.open(message)
            case SnapshotWork():
                self.answer(State(message.req, self.engine.snapshot(self.ids[message.session])))
            case RestoreWork():
                self.replace(message.session, self.engine.restore(message.state))
                self.encodings[message.session] = message.encoding, message.cameras
                self.answer(Done(message.req))
            case ForkWork():
                ids = self.engine.fork(self.ids[message.session], len(message.copies))
                for name, new in zip(message.copies, ids, strict=True):
                    self.replace(name, new)
                    self.encodings[name] = self.encodings[message.session]
                self.answer(Done(message.req))
            case TierWork():
                self.engine.set_tier(self.ids[message.session], message.tier)
                self.answer(Done(message.req))
            case MapWork():
                from .lane_map import lane_map

                around = self.engine.surroundings(self.ids[message.session])
                self.answer(Map(message.req, lane_map(around)))
            case CloseWork():
                self.forget(message.session)
                self.answer(Done(message.req))
            case StopWork():
                self.running = False
                self.answer(Done(message.req))

    def open(self, work: OpenWork) -> None:
        """Open a world under the session's name, replacing the one that it had."""
        from worldmodel.engine import OpenRequest, SessionOptions
        from worldmodel.rig import load_rig

        from .engines import camera_dicts

        cameras = work.options.get("cameras")
        options = SessionOptions(**work.options | {"cameras": tuple(cameras) if cameras else None})
        began_s = time.monotonic()
        result = self.engine.open(OpenRequest(work.scenario, work.rig, work.seed, options))
        self.replace(work.session, result.session)
        rig = load_rig(work.rig)
        rig = (rig.subset(options.cameras) if options.cameras else rig).scaled(*result.frames.shape[2:4])
        self.encodings[work.session] = work.encoding, list(rig.names)
        timing = {"engine": (time.monotonic() - began_s) * 1e3, **result.timings_ms}
        self.encoders.submit(work.req, result, *self.encodings[work.session], timing, 1, camera_dicts(rig))

    def replace(self, name: str, new: int) -> None:
        """The name now means another world; the old one is freed."""
        self.forget(name)
        self.ids[name] = new
        self.unflushed.add(name)
        self.encoders.sessions = len(self.ids)

    def forget(self, name: str) -> None:
        """Free a session, if it is open."""
        self.ready.pop(name, None)
        self.together.discard(name)
        self.encodings.pop(name, None)
        self.unflushed.discard(name)
        self.flush_ms.pop(name, None)
        self.videos.forget(name)
        if (old := self.ids.pop(name, None)) is not None:
            self.engine.close(old)
        self.encoders.sessions = len(self.ids)

    def answer(self, message: Any) -> None:
        """Send an answer from the main thread."""
        self.socket.send(to_bytes(message))

    def fail(self, req: int, code: ErrorCode, text: str) -> None:
        """Answer that the work was not done."""
        self.answer(Failed(req, code, text))

    def answer_error(self, req: int, error: Exception) -> None:
        """The engine's refusals reach the client; anything else is a bug, whose details stay in the log."""
        from worldmodel.engine import ActionError, EngineError

        if isinstance(error, ActionError):
            self.fail(req, ErrorCode.BAD_ACTION, str(error))
        elif isinstance(error, EngineError):
            self.fail(req, ErrorCode.BAD_REQUEST, str(error.args[0] if error.args else error))
        else:
            log.error("work %d failed", req, exc_info=error)
            self.fail(
                req, ErrorCode.INTERNAL, f"the engine failed with {type(error).__name__}; nothing changed"
            )


def _exit_if_device_broke(error: Exception) -> None:
    """After a CUDA error nothing on the device can be trusted: end, be restarted, restore from snapshots."""
    if "CUDA" in str(error) or type(error).__name__ == "AcceleratorError":
        log.critical("the device failed", exc_info=error)
        logging.shutdown()
        os._exit(ENGINE_BROKEN)
