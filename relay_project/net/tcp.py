"""Ports: is one free, and which is."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


def free_port(address: str = LOOPBACK) -> int:
    """A port that nobody has right now; whoever binds it next must still be ready to find it taken."""
    with _socket(address) as sock:
        sock.bind((address, 0))
        port: int = sock.getsockname()[1]
        return port


def port_is_free(address: str, port: int) -> bool:
    """Nobody listens at `port`, and we may; False too when the port needs a privilege or the address is not ours."""
    with _socket(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections in TIME_WAIT do not count
        try:
            sock.bind((address, port))
        except OSError:
            return False
        return True


def _socket(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
