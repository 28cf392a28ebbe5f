"""How many calls a process makes at once, and whose: what hangs takes the room of nobody else. Pure."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Room:
    """`has` room for a call of a project, `enter` with it, `leave` when it is over; `projects` have something to be told."""

    most: int
    projects: int = 0
    busy: int = 0
    _of_project: Counter[int] = field(default_factory=Counter)

    def has(self, project_id: int, is_failing: bool) -> bool:
        """Calls where nothing works have half of the room at most. Half is anybody's, and of the other each project has its
        share, and one more that comes: a project whose receivers all hang takes the room of no other.
        """
        half = self.most // 2
        if self.busy < half or is_failing:
            return self.busy < half
        if self.projects < 2:
            return self.busy < self.most - self.most // 4
        return self.busy < self.most and self._of_project[project_id] < max(half // (self.projects + 1), 1)

    @property
    def is_scarce(self) -> bool:
        """Whether somebody may have been refused."""
        return self.busy > self.most // 2

    def enter(self, project_id: int) -> None:
        """A call begins."""
        self.busy += 1
        self._of_project[project_id] += 1

    def leave(self, project_id: int) -> None:
        """It is over."""
        self.busy -= 1
        self._of_project[project_id] -= 1
        if self._of_project[project_id] <= 0:
            del self._of_project[project_id]
