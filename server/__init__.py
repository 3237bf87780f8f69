"""The server: front end, sessions, workers, recording."""
