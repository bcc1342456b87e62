"""Fills the database with eight tickets in three queues, and prints the session cookie of a member of staff."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402
from helpdesk.models import CustomField, FollowUp, PreSetReply, Queue, Ticket  # noqa: E402

call_command("migrate", verbosity=0)
staff = get_user_model().objects.create(username="staff", is_staff=True, is_superuser=True, email="staff@example.org")
queues = [
    Queue.objects.create(slug=slug, title=title, allow_public_submission=True, email_address=f"{slug}@example.org")
    for slug, title in (("billing", "Billing"), ("shipping", "Shipping"), ("returns", "Returns & refunds"))
]
CustomField.objects.create(
    name="order", label="Order number", data_type="varchar", max_length=20, required=False, staff_only=False, ordering=1
)
CustomField.objects.create(
    name="channel", label="Channel", data_type="list", list_values="mail\nchat", required=False, staff_only=False
)
PreSetReply.objects.create(name="Thanks", body="Dear {{ ticket.submitter_email }}, thanks.")
for number in range(8):
    ticket = Ticket.objects.create(
        queue=queues[number % 3],
        title=("Broken lamp", "Lost parcel", "Refund <urgent> & more")[number % 3],
        submitter_email=f"c{number}@example.org",
        status=1 + number % 4,
        priority=1 + number % 5,
        description="It broke.\nPlease help.",
        assigned_to=staff if number % 2 else None,
    )
    FollowUp.objects.create(ticket=ticket, title="Comment", comment="On its way.", public=bool(number % 2), user=staff)
client = Client()
client.force_login(staff)
print(client.cookies["sessionid"].value)
