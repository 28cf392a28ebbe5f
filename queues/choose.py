"""Which queue a project's mail waits in."""

from projects.models import Project
from queues.models import Queue
from relay_project.db.lookup import Remembered

# One look-up, remembered for a second: every accepted mail asks.
_QUEUE = Remembered(
    Queue,
    "t.id = coalesce((SELECT queue_id FROM queues_projectqueue WHERE project_id = %s),"
    " (SELECT id FROM queues_queue WHERE name = %s AND is_default))",
)


def queue_for(project: Project) -> Queue:
    """The queue that staff gave the project, else the default one of its send type.

    Raises Queue.DoesNotExist before the first start.
    """
    queue = _QUEUE.first(project.pk, project.send_type)
    if queue is None:
        raise Queue.DoesNotExist(f"There is no default queue {project.send_type} yet.")
    return queue
