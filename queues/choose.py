"""Which queue a project's mail waits in."""

from projects.models import Project
from queues.models import Queue


def queue_for(project: Project) -> Queue:
    """The default queue of the project's send type; raises Queue.DoesNotExist before the first start."""
    return Queue.objects.get(name=project.send_type, is_default=True)
