"""Training: cached clips, tokeniser and dynamics runs, rollouts that judge them."""
