"""Line ends. CRLF is the only one that a message may have; what has others is made to have it."""

import re

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def with_crlf(octets: bytes) -> bytes:
    """Each bare CR and LF made a CRLF.

    Servers differ in what they take them for, and one that takes LF for a line end can be made to see the end of the
    message where it is not (SMTP smuggling). Counting first is twenty times as fast as looking, and nearly all is fine.
    """
    ends = octets.count(b"\r\n")
    if octets.count(b"\n") == ends == octets.count(b"\r"):
        return octets
    return _BARE.sub(b"\r\n", octets)


def has_longer_line(octets: bytes, most: int) -> bool:
    """Whether a line has more than so many octets without its CRLF; looked for in steps of that, so that it costs little,
    and nothing is copied: ten megabytes of line ends would be five million lines."""
    at = 0
    while len(octets) - at > most:
        end = octets.rfind(b"\r\n", at, at + most + 2)
        if end < 0:
            return True
        at = end + 2
    return False
