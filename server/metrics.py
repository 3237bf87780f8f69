"""Prometheus metrics. No label ever holds a session, an address or a token: their number is fixed by the code."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.333, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Every metric of a server. docs/operations.md has the table."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.sessions = Gauge("roadloop_sessions", "Sessions that are open", ["state"], registry=r)
        self.session_slots = Gauge(
            "roadloop_session_slots", "Sessions that ready workers can hold", registry=r
        )
        self.sessions_opened = Counter("roadloop_sessions_opened", "Sessions opened", ["how"], registry=r)
        self.sessions_closed = Counter("roadloop_sessions_closed", "Sessions closed", ["reason"], registry=r)
        self.sockets = Gauge("roadloop_sockets", "Open sockets", ["role"], registry=r)
        self.refused = Counter(
            "roadloop_refused", "Sockets and calls refused at the door", ["code"], registry=r
        )
        self.errors = Counter("roadloop_errors", "Requests answered with an error", ["code"], registry=r)
        self.step_seconds = Histogram(
            "roadloop_step_seconds", "A step, from request to reply", buckets=BUCKETS, registry=r
        )
        self.stage_seconds = Histogram(
            "roadloop_stage_seconds", "Stages of a chunk", ["stage"], buckets=BUCKETS, registry=r
        )
        self.batch_size = Histogram(
            "roadloop_batch_size", "Sessions per batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=r
        )
        self.chunks = Counter("roadloop_chunks", "Chunks committed", registry=r)
        self.frames = Counter("roadloop_frames", "Frames encoded", registry=r)
        self.frame_bytes = Counter(
            "roadloop_frame_bytes", "Bytes of encoded frames", ["encoding"], registry=r
        )
        self.viewer_dropped = Counter(
            "roadloop_viewer_dropped_chunks", "Chunks that slow viewers missed", registry=r
        )
        self.held = Counter("roadloop_held_chunks", "Real-time chunks run without a new action", registry=r)
        self.action_age = Histogram(
            "roadloop_action_age_seconds",
            "Age of actions when used in real time",
            buckets=BUCKETS,
            registry=r,
        )
        self.snapshots_taken = Counter("roadloop_snapshots", "Snapshots taken", ["why"], registry=r)
        self.snapshot_bytes = Gauge("roadloop_snapshot_bytes", "Bytes of snapshots in memory", registry=r)
        self.snapshot_file_bytes = Gauge(
            "roadloop_snapshot_file_bytes", "Bytes of snapshots on disk", registry=r
        )
        self.workers = Gauge("roadloop_workers", "Workers by state", ["state"], registry=r)
        self.workers_lost = Counter(
            "roadloop_workers_lost", "Workers that ended or were ended", ["cause"], registry=r
        )
        self.sessions_recovered = Counter(
            "roadloop_sessions_recovered", "Sessions restored after a lost worker", registry=r
        )
        self.worker_memory = Gauge(
            "roadloop_worker_memory_bytes", "Peak memory of the largest worker", registry=r
        )
        self.loop_lag = Gauge(
            "roadloop_event_loop_lag_seconds", "How late the front end's clock ticks", registry=r
        )
        self.build = Gauge("roadloop_build_info", "Constant 1", ["version", "engine", "model"], registry=r)

    def text(self) -> bytes:
        """The exposition for a scrape."""
        return generate_latest(self.registry)
