"""Room: what a sender has in flight, against its allowance of recipients and octets.

A sender claims whenever less than half of the allowance is used, and then fills it. Urgent mail has half as much again
for itself: bulk that fills the allowance, or waits for slow sites in it, never keeps a transactional mail out.
"""

from dataclasses import dataclass

from django.conf import settings

from sending.deliver.claim import ANY_PRIORITY, URGENT
from sending.deliver.load import Job


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the next claim may take: about so many recipients and octets, and nothing less urgent than `up_to`."""

    rows: int
    octets: int
    up_to: int


@dataclass(slots=True)
class Room:
    """Recipients and octets in flight; those of urgent mail are counted beside."""

    rows: int = 0
    octets: int = 0
    urgent_rows: int = 0
    urgent_octets: int = 0

    def weigh(self, job: Job, sign: int) -> None:
        """A job was claimed (1), or its rows left our hands (-1)."""
        rows, octets = sign * len(job.targets), sign * job.size_bytes
        self.rows += rows
        self.octets += octets
        if job.priority <= URGENT:
            self.urgent_rows += rows
            self.urgent_octets += octets

    @property
    def is_free(self) -> bool:
        """Less than half of the allowance is used."""
        return self.rows < settings.IN_FLIGHT_ROWS / 2 and self.octets < settings.IN_FLIGHT_BYTES / 2

    @property
    def is_free_for_urgent(self) -> bool:
        """There is room, or what fills it is bulk, and urgent mail has used less than half of its own."""
        return self.is_free or (
            self.urgent_rows < settings.IN_FLIGHT_ROWS / 4 and self.urgent_octets < settings.IN_FLIGHT_BYTES / 4
        )

    @property
    def wanted(self) -> Wanted:
        """What the next claim may take, while there is room for anything."""
        rows, octets = settings.IN_FLIGHT_ROWS, settings.IN_FLIGHT_BYTES
        if self.is_free:
            return Wanted(rows - self.rows, octets - self.octets, ANY_PRIORITY)
        return Wanted(rows // 2 - self.urgent_rows, octets // 2 - self.urgent_octets, URGENT)
