"""Patterns of addresses: `support` (this one), `support+*` (whatever begins so), `*` (all of the domain). Pure.

Only local parts; a pattern belongs to a domain. Case makes no difference, as with suppressions (lesson C8).
"""

import unicodedata

from relay_project.mail.address import MAX_LOCAL_PART, InvalidAddress, InvalidDomain, normalise_domain, parse_mailbox

ALL = "*"


class InvalidPattern(ValueError):
    """Not a pattern; the message says why."""


def read_pattern(text: str) -> tuple[str, str]:
    """`Support+*@Shop.example` → `("support+*", "shop.example")`; raises InvalidPattern."""
    local, at, domain = text.strip().rpartition("@")
    if not at:
        raise InvalidPattern("This value is no address such as support@in.example.com, support+*@… or *@….")
    try:
        domain = normalise_domain(domain)
    except InvalidDomain:
        raise InvalidPattern("This value names no full domain after its @.") from None
    if "*" in local[:-1]:
        raise InvalidPattern("A * may stand at the end of the part before the @ only.")
    prefix = local.removesuffix(ALL)
    if local != ALL:
        try:
            # what a * stands for may follow a dot, so that a letter takes its place
            parse_mailbox(f"{prefix}x@{domain}" if local.endswith(ALL) else f"{local}@{domain}")
        except InvalidAddress:
            raise InvalidPattern(
                "This value is no address such as support@in.example.com, support+*@… or *@…."
            ) from None
    pattern = fold(local)
    if len(pattern) > MAX_LOCAL_PART + 1:  # folding may make a text longer
        raise InvalidPattern("The part before the @ is too long.")
    return pattern, domain


def fold(local: str) -> str:
    """The spelling under which local parts are compared."""
    if local.isascii():
        return local.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).casefold())


def fits(pattern: str, local: str) -> bool:
    """Whether a pattern takes a local part, which is folded."""
    if pattern.endswith(ALL):
        return local.startswith(pattern[:-1])
    return local == pattern
