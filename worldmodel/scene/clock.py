"""The clock of every session: frames, and chunks of frames."""

FPS = 12
FRAMES_PER_CHUNK = 4
FRAME_DT_S = 1.0 / FPS
CHUNK_DT_S = FRAMES_PER_CHUNK / FPS
