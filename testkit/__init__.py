"""What tests and benchmarks share: tiny models, real processes, the article's loop, and checks of whole jobs."""
