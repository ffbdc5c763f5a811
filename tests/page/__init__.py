"""The page in a real browser, against the real service with the demo model."""
