"""The send that a page's address names."""

import uuid

from django.http import Http404

from projects.console.page import Place
from relay_project.db.ids import id_of_uuid
from sending.content import find_send
from sending.models import Send


def send_or_404(place: Place, send_uuid: uuid.UUID) -> Send:
    """The project's; absent and foreign look alike."""
    send_id = id_of_uuid(send_uuid)
    send = find_send(place.project.pk, send_id) if send_id is not None else None
    if send is None or send.uuid != send_uuid:
        raise Http404
    return send
