"""The network: tokeniser, multi-camera causal DiT, rolling KV, sampler, noise, checkpoints."""
