"""The client side: wire protocol, Python client, environments, evaluation."""
