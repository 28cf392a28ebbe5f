"""The live stream: a project's events as they happen, as server-sent events and over WebSocket.

`application` is what the server calls. One `Hub` a process holds all connections, reads the feed once for all of them and
gives each what it asked for. Its clients resume from an event's id, so that nothing is missed or told twice.
"""
