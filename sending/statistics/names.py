"""What people call the keys of the counts that are ids."""

from collections.abc import Collection

from ips.models import SourceIp
from projects.models import Project
from queues.models import Queue
from sending.models import Dimension
from sending.statistics.read import Series

OTHERS = "all others"


def names_of(dimension: Dimension, series: Collection[Series], project: Project | None = None) -> dict[str, str]:
    """Key → name; an id whose object is gone is its own name. `project`: whose own counts they are, None: the instance's."""
    keys = [one.key for one in series if not one.is_others]
    ids = [int(key) for key in keys if key.isascii() and key.isdigit()]
    found: dict[int, str] = {}
    if dimension is Dimension.QUEUE:
        found = dict(Queue.objects.filter(pk__in=ids).values_list("pk", "name"))
    elif dimension is Dimension.IP:
        found = {pk: str(address) for pk, address in SourceIp.objects.filter(pk__in=ids).values_list("pk", "address")}
    elif dimension is Dimension.PROJECT and project is not None:
        return {"": project.name}
    elif dimension is Dimension.PROJECT:
        found = dict(Project.objects.filter(pk__in=ids).values_list("pk", "name"))
    return {key: found.get(int(key), f"#{key}") if key.isascii() and key.isdigit() and found else key for key in keys}
