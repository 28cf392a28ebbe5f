"""Attachments unpacked within bounds: gzip (RFC 1952) and ZIP archives, whose first file is what counts.

An archive's directory is not read: it may name as many files as it likes. The file's own header stands before its octets,
and deflate (RFC 1951) knows where it ends.
"""

import struct
import zlib

MAX_UNPACKED = 8 << 20  # octets; a day of the greatest senders at one receiver has a tenth of it
MAX_RATIO = 250  # octets from one: XML and JSON give up to 100, a bomb of zeros 1,000
SMALL = 1 << 20  # octets; below that any ratio does no harm
MAX_LAYERS = 3  # some send a gzip in a ZIP
MAX_MEMBERS = 10  # of one gzip; reports have one
MAX_FILES = 5  # looked at in an archive: directories and resource forks stand before the report sometimes

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # APPNOTE.TXT §4.3.7
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1


class CannotUnpack(ValueError):
    """What is packed is broken, encrypted or too large; the message says which."""


def is_packed(octets: bytes) -> bool:
    """Whether it begins as a gzip or ZIP does."""
    return octets.startswith((_GZIP, _ZIP))


def unpacked(octets: bytes) -> bytes:
    """What is in it, layer by layer; what is not packed comes back as it is. Raises CannotUnpack."""
    for _ in range(MAX_LAYERS):
        if not is_packed(octets):
            return octets
        try:
            octets = _gunzip(octets) if octets.startswith(_GZIP) else _first_file(octets)
        except (zlib.error, struct.error) as error:
            raise CannotUnpack("The attachment is broken.") from error
    if is_packed(octets):
        raise CannotUnpack("The attachment is packed too often.")
    return octets


def _gunzip(octets: bytes) -> bytes:
    """Every member, one after the other (RFC 1952 §2.2); what follows them is padding."""
    found = b""
    for _ in range(MAX_MEMBERS):
        if not octets.startswith(_GZIP):
            break
        member, octets = _inflate(octets, 16 + zlib.MAX_WBITS, len(found))
        found += member
    return found


def _first_file(octets: bytes) -> bytes:
    """The archive's first file of more than nothing that is not hidden."""
    for _ in range(MAX_FILES):
        _, _, flags, method, _, _, _, size, _, name_length, extra_length = _LOCAL_HEADER.unpack_from(octets)
        name = octets[_LOCAL_HEADER.size : _LOCAL_HEADER.size + name_length]
        data = octets[_LOCAL_HEADER.size + name_length + extra_length :]
        if flags & _ENCRYPTED:
            raise CannotUnpack("The archive is encrypted.")
        if method == _DEFLATED:
            content, rest = _inflate(data, -zlib.MAX_WBITS)
        elif method == _STORED:
            content, rest = data[:size], data[size:]
        else:
            raise CannotUnpack("The archive is packed in an unknown way.")
        if content and not name.startswith((b"__MACOSX", b".")):
            return content
        octets = rest[max(rest.find(_ZIP), 0) :]
    raise CannotUnpack("The archive holds no report.")


def _inflate(octets: bytes, bits: int, so_far: int = 0) -> tuple[bytes, bytes]:
    """(what it says, what follows it); raises CannotUnpack when it says too much, zlib.error when it is broken."""
    stream = zlib.decompressobj(bits)
    limit = min(MAX_UNPACKED, max(SMALL, len(octets) * MAX_RATIO)) - so_far
    found = stream.decompress(octets, limit + 1) if limit >= 0 else b" "
    if len(found) > limit:
        raise CannotUnpack("The attachment is too large.")
    return found, stream.unused_data
