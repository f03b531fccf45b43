"""Receives messages from the broker: transport, consumer, order of queues."""
