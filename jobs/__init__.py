"""What service and worker share, and all they share: the job record in Redis, its queue, and the image store."""
