"""What can be painted, and what a model can paint. No torch, no HTTP, no Redis; imports nothing of ours."""
