"""Takes jobs off the RQ queue and paints them in one warm model process that this process watches."""
