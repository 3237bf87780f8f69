"""X-Cache: reuse of transformer block residuals across chunks of a streaming world model."""
