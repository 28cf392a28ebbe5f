"""Which events a webhook is told of: by kind, and by tag and domain where an event has such. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Filters:
    """What a webhook asks for; no tags and no domains stand for all."""

    kinds: Collection[str]
    tags: Collection[str] = ()
    domains: Collection[str] = ()

    def wants(self, body: Mapping[str, Any]) -> bool:
        """Whether it is to be told. An event that is about no mail has no tags, one that is about no domain no domain:
        those come through."""
        if body["event"] not in self.kinds:
            return False
        if self.tags:
            tags = tags_of(body)
            if tags is not None and not any(tag in self.tags for tag in tags):
                return False
        if self.domains:
            domain = domain_of(body)
            if domain is not None and domain not in self.domains:
                return False
        return True


def tags_of(body: Mapping[str, Any]) -> list[str] | None:
    """The tags of the mail that an event is about; None where it is about none."""
    send = body["payload"].get("send")
    return list(send.get("tags") or ()) if isinstance(send, dict) else None


def domain_of(body: Mapping[str, Any]) -> str | None:
    """The sending domain that an event is about, in lower case; None where it is about none, or that is not known."""
    payload = body["payload"]
    send, domain = payload.get("send"), payload.get("domain")
    if isinstance(send, dict):
        return str(send.get("from_address", "")).rpartition("@")[2].lower() or None
    if isinstance(domain, dict):
        return str(domain.get("domain", "")).lower() or None
    return None
