"""Which queue a project's mail waits in."""

from projects.models import Project
from queues.models import Queue
from relay_project.db.lookup import Remembered

_DEFAULT = Remembered(Queue, "t.name = %s AND t.is_default")


def queue_for(project: Project) -> Queue:
    """The default queue of the project's send type; raises Queue.DoesNotExist before the first start."""
    queue = _DEFAULT.first(project.send_type)
    if queue is None:
        raise Queue.DoesNotExist(f"There is no default queue {project.send_type} yet.")
    return queue
