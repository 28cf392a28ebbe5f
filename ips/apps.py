"""Where we are: servers, source IPs, the senders that serve them."""

from django.apps import AppConfig


class IpsConfig(AppConfig):
    name = "ips"
    verbose_name = "IPs"
