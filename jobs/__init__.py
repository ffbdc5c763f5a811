"""What service and worker share: the job record in Redis, its queue, and the image store. They share nothing else."""
