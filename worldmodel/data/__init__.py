"""Episodes on disk and on the fly: recording, shards that stream, and clips for training."""
