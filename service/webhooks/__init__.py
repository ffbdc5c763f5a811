"""Notifies clients when a job has ended, by Standard Webhooks (https://www.standardwebhooks.com)."""
