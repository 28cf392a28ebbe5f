"""The console's pages about mail, below /console/<project_id>."""

from django.urls import path

from sending.console import archive, check, overview, sandbox, scheduling, sends, statistics, suppressions

urlpatterns = [
    path("", overview.overview, name="console-overview"),
    path("/archive", archive.archive, name="console-archive"),
    path("/sends", sends.sends, name="console-sends"),
    path("/sends/check", check.check, name="console-check"),
    path("/sends/<uuid:send_uuid>", sends.one_send, name="console-send"),
    path("/sends/<uuid:send_uuid>/preview", sends.send_preview, name="console-send-preview"),
    path("/sends/<uuid:send_uuid>/now", sends.try_now, name="console-send-now"),
    path("/sends/<uuid:send_uuid>/cancel", scheduling.cancel, name="console-send-cancel"),
    path("/sends/<uuid:send_uuid>/move", scheduling.move, name="console-send-move"),
    path("/sends/<uuid:send_uuid>/retry", sends.retry_failed, name="console-send-retry"),
    path("/sends/<uuid:send_uuid>/preview.html", sends.send_html, name="console-send-html"),
    path("/sends/<uuid:send_uuid>/raw", sends.send_raw, name="console-send-raw"),
    path("/sends/<uuid:send_uuid>/raw.eml", sends.send_file, name="console-send-file"),
    path("/suppressions", suppressions.suppressions, name="console-suppressions"),
    path("/suppressions/new", suppressions.new_suppression, name="console-new-suppression"),
    path("/suppressions/import", suppressions.import_suppressions, name="console-import-suppressions"),
    path("/suppressions/export.csv", suppressions.export_suppressions, name="console-export-suppressions"),
    path(
        "/suppressions/<int:suppression_id>/remove",
        suppressions.remove_suppression,
        name="console-remove-suppression",
    ),
    path("/statistics", statistics.statistics, name="console-statistics"),
    path("/sandbox", sandbox.inbox, name="console-sandbox"),
    path("/sandbox/<int:message_id>", sandbox.one_message, name="console-sandbox-message"),
    path("/sandbox/<int:message_id>/preview.html", sandbox.message_html, name="console-sandbox-html"),
    path("/sandbox/<int:message_id>/raw.eml", sandbox.message_file, name="console-sandbox-file"),
]
