"""Takes jobs off the RQ queue, has one model process paint them, renews their leases and commits the results."""
